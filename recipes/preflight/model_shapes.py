"""Models in their true shapes, without storage, and the live bytes of their tensors."""

import copy
import weakref
from collections import Counter
from dataclasses import dataclass

import torch
from peft import LoraConfig, get_peft_model
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoModelForTokenClassification

# what autograd does in place while it goes back (sums of gradients, gather's own), but not under a mode like Live
IN_PLACE = (torch.ops.aten.add.Tensor, torch.ops.aten.scatter_add.default)


@dataclass(kw_only=True)
class Workload:
    """What decides the memory of a work. Lengths are in tokens, of the longest rows."""

    recipe: str
    config: object  # the model's, a transformers PreTrainedConfig
    prompt: int
    completion: int
    batch: int  # sequences a device and micro-step (pairs, for dpo and reward_model)
    accumulation: int = 1
    sampled: int = 0  # completions a device samples together: grpo, ppo
    dtype: torch.dtype = torch.float32
    amp: torch.dtype | None = None
    peft_config: LoraConfig | None = None
    quantized: float | None = None  # bytes a weight
    checkpointing: bool = False
    reference: bool = False  # a second model, frozen
    reward_model: object | None = None  # its config: ppo
    value_model: object | None = None  # its config: ppo
    step_level: bool = False  # scores every token: reward_model
    vllm: str | None = None  # server, colocate, or asleep: colocate, and out of the way while the trainer works
    vllm_bytes: int = 0  # what it takes of each device in colocate mode
    sharding: str = "none"  # none, ddp, fsdp, zero1, zero2, zero3
    processes: int = 1
    offload_optimizer: bool = False
    offload_params: bool = False
    on_cpu: bool = False  # buffers that are reserved and never written take nothing there


class Live(TorchDispatchMode):
    """Counts the bytes of tensors that are alive, by kind, and remembers the most there were."""

    def __init__(self, vocabulary: int):
        super().__init__()
        self.vocabulary, self.live, self.peak, self.kinds = vocabulary, Counter(), Counter(), {}
        self.backward = False

    def __torch_dispatch__(self, function, _types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if self.backward and function in IN_PLACE and isinstance(args[0], torch.Tensor):
            storage = args[0].untyped_storage()
            if self.kinds.get(storage._cdata) in ("activations", "logits"):
                self.drop(storage._cdata, storage.nbytes())
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self.add(tensor)
        return result

    def add(self, tensor: torch.Tensor, kind: str | None = None) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self.kinds:
            self.kinds[key] = kind or ("logits" if tensor.shape[-1:] == (self.vocabulary,) else "activations")
            self.live[self.kinds[key]] += storage.nbytes()
            weakref.finalize(storage, self.drop, key, storage.nbytes())
            if self.live.total() > self.peak.total():
                self.peak = self.live.copy()

    def call(self, tensor: torch.Tensor, kind: str) -> None:
        """Count a tensor as another kind from now on."""
        key, size = tensor.untyped_storage()._cdata, tensor.untyped_storage().nbytes()
        self.live[self.kinds[key]] -= size
        self.kinds[key] = kind
        self.live[kind] += size

    def drop(self, key: int, size: int) -> None:
        if key in self.kinds:
            self.live[self.kinds.pop(key)] -= size


def make(work: Workload, config, head: str):
    auto = AutoModelForCausalLM
    if head == "score":
        auto = AutoModelForTokenClassification if work.step_level else AutoModelForSequenceClassification
        labels = {"num_labels": 1, "id2label": {0: "score"}, "label2id": {"score": 0}, "pad_token_id": 0}
        config = type(config).from_dict(config.to_dict() | labels)
    try:
        model = auto.from_config(config, dtype=work.dtype, attn_implementation="sdpa")
    except ValueError as error:
        if "attention implementation" not in str(error):
            raise
        model = auto.from_config(config, dtype=work.dtype, attn_implementation="eager")  # Gemma 2, gpt-oss
    if work.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if work.peft_config:
        if work.checkpointing:
            model.enable_input_require_grads()
        peft_config = copy.copy(work.peft_config)
        if head == "score":  # the new head is trained without an adapter
            peft_config.task_type = "TOKEN_CLS" if work.step_level else "SEQ_CLS"
            peft_config.modules_to_save, peft_config.exclude_modules = ["score"], ["score"]
        model = get_peft_model(model, peft_config)
        if work.quantized and work.sharding.startswith("zero"):
            for parameter in model.parameters():
                if parameter.requires_grad:  # as TRL does, where recipes.model_loading.keep_small_steps doesn't undo it
                    parameter.data = parameter.data.to(torch.bfloat16)
    return model.train()


def kv_bytes(config, width: int) -> int:
    """The KV cache of one token, in bytes, of elements of so many; config: the text model's."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * head * width


def make_fake(model) -> None:
    """Put tensors that claim to be on the CPU in place of a model's on the meta device, where autocast does nothing."""
    made = {}
    for module in model.modules():
        for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
            if tensor is None:
                continue
            if id(tensor) not in made:
                made[id(tensor)] = tensor, torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
                if isinstance(tensor, torch.nn.Parameter):
                    fake = torch.nn.Parameter(made[id(tensor)][1], requires_grad=tensor.requires_grad)
                    made[id(tensor)] = tensor, fake
            of_module = module._parameters if name in module._parameters else module._buffers
            of_module[name] = made[id(tensor)][1]


def sizes(work: Workload, model) -> tuple[list[float], list[float]]:
    """Bytes of each weight that is quantised, and of each that is not: the head isn't, nor what is trained."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    small = set()
    if work.quantized:
        linear = (m for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head)
        small = {m.weight for m in linear if not m.weight.requires_grad}
    others = [p for p in model.parameters() if p not in small]
    return [p.numel() * work.quantized for p in small], [p.numel() * p.element_size() for p in others]


def bytes_of(work: Workload, model) -> int:
    return int(sum(map(sum, sizes(work, model))))
