"""How much memory a run needs on each device, before anything is loaded.

The model is made in its true shapes from config.json, without storage (torch's FakeTensorMode), adapters included, and one
training step of the trainer's own loss runs on it: what autograd keeps is counted tensor by tensor, so attention, gradient
checkpointing, LoRA and the vocabulary's logits are what they are, for any architecture. What never meets that step is
arithmetic, from the sources of DeepSpeed 0.19: shards, master weights, optimizer states, buckets, gathered parameters.

Counted is what tensors take. Not counted: the CUDA context and NCCL (about 1 GiB), kernels' workspaces, and what the
allocator loses to fragmentation. `python benchmarks/memory.py` compares the estimate with measured peaks.
"""

import copy
import weakref
from collections import Counter
from dataclasses import dataclass, field
from types import SimpleNamespace

import torch
from peft import LoraConfig, get_peft_model
from torch._subclasses import FakeTensorMode
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoModelForTokenClassification
from trl import GRPOTrainer
from trl.trainer.sft_trainer import _CHUNKED_LM_HEAD_CHUNK_SIZE, _chunk
from trl.trainer.utils import selective_log_softmax

GIB = 2**30
ADAM_STATES = 2  # a mean and a variance for each weight that is trained
# nf4: half a byte a weight; a scale for each 64 of them, of 4 bytes, or quantised again to 1 (and 4 bytes for 256 of those)
NF4, NF4_NESTED = 0.5 + 4 / 64, 0.5 + 1 / 64 + 4 / (64 * 256)
# DeepSpeed's defaults, in elements, which the launch files leave alone
BUCKET, MAX_LIVE = 5e8, 1e9


@dataclass(kw_only=True)
class Run:
    """What decides the memory of a run. Lengths are in tokens, of the longest rows."""

    recipe: str
    config: object  # the model's, a transformers PreTrainedConfig
    prompt: int
    completion: int
    batch: int  # sequences a device and micro-step (pairs, for dpo and reward_model)
    accumulation: int = 1
    sampled: int = 0  # completions a device samples together: grpo, ppo
    forward_batch: int = 0  # sequences a forward pass of the rollout: ppo
    dtype: torch.dtype = torch.float32
    amp: torch.dtype | None = None
    peft_config: LoraConfig | None = None
    quantized: float | None = None  # bytes a weight
    checkpointing: bool = False
    reference: bool = False  # a second model, frozen
    reward_model: object | None = None  # its config, and the value model's: ppo
    value_model: object | None = None
    step_level: bool = False  # scores every token: reward_model
    vllm: str | None = None  # server, colocate, or asleep: colocate, and out of the way while the trainer works
    vllm_bytes: int = 0  # what it takes of each device in colocate mode
    engine: str = "none"  # none, ddp, fsdp, zero1, zero2, zero3
    processes: int = 1
    offload_optimizer: bool = False
    offload_params: bool = False
    on_cpu: bool = False  # buffers that are reserved and never written take nothing there


@dataclass
class Estimate:
    """Bytes a device, by part, at the moments that can be the peak, and on the host for what is offloaded."""

    moments: dict[str, Counter] = field(default_factory=dict)
    host: int = 0  # of a machine's memory, for each of its devices
    parameters: int = 0
    trainable: int = 0

    @property
    def worst(self) -> tuple[str, Counter]:
        return max(self.moments.items(), key=lambda moment: moment[1].total())

    @property
    def peak(self) -> int:
        return int(self.worst[1].total())


# what autograd does in place while it goes back (sums of gradients, gather's own), but not under a mode like this one
IN_PLACE = (torch.ops.aten.add.Tensor, torch.ops.aten.scatter_add.default)


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


def estimate(run: Run) -> Estimate:
    """The memory of a run. Raises ValueError for an adapter that doesn't fit the model."""
    pure = run.amp if run.engine.startswith("zero") else None  # DeepSpeed casts the model, instead of autocast
    with torch.device("meta"):
        models = [make(run, run.config, "score" if run.recipe == "reward_model" else "causal")]
        if run.recipe == "ppo":
            models.append(make(run, run.value_model or run.reward_model or run.config, "score"))
        if pure:
            models = [model.to(pure) for model in models]
        frozen = bytes_of(run, models[0]) if run.reference and not run.peft_config else 0
        if run.recipe == "ppo" and run.reward_model:
            frozen += bytes_of(run, make(run, run.reward_model, "score").to(pure))
    trainable = [p for model in models for p in model.parameters() if p.requires_grad]
    result = Estimate(
        parameters=sum(p.numel() for model in models for p in model.parameters()),
        trainable=sum(p.numel() for p in trainable),
    )
    always, at_loss, at_update = engine(run, models, frozen, pure, result)
    with FakeTensorMode():
        for model in models:
            make_fake(model)
        result.moments = {"training": always + at_loss + training(run, models, pure), "updating": always + at_update}
        if run.recipe in ("grpo", "ppo"):
            result.moments["sampling"] = always + sampling(run, models[0], pure)
    if (
        run.engine in ("zero1", "zero2") and run.on_cpu
    ):  # the weights to save are copied to the CPU, which is the device
        result.moments["saving"] = always + Counter(copy=bytes_of(run, models[0]))
    for moment, parts in result.moments.items():
        if run.vllm == "colocate" or (run.vllm == "asleep" and moment == "sampling"):
            parts["vllm"] = run.vllm_bytes
    return result


def make(run: Run, config, head: str):
    auto = AutoModelForCausalLM
    if head == "score":
        auto = AutoModelForTokenClassification if run.step_level else AutoModelForSequenceClassification
        labels = {"num_labels": 1, "id2label": {0: "score"}, "label2id": {"score": 0}, "pad_token_id": 0}
        config = type(config).from_dict(config.to_dict() | labels)
    model = auto.from_config(config, dtype=run.dtype, attn_implementation="sdpa")
    if run.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if run.peft_config:
        if run.checkpointing:
            model.enable_input_require_grads()
        peft_config = copy.copy(run.peft_config)
        if head == "score":  # the new head is trained whole
            peft_config.task_type = "TOKEN_CLS" if run.step_level else "SEQ_CLS"
            peft_config.modules_to_save, peft_config.exclude_modules = ["score"], ["score"]
        model = get_peft_model(model, peft_config)
        if run.quantized and run.engine.startswith("zero"):
            for parameter in model.parameters():
                if parameter.requires_grad:  # as TRL does, where recipes._common.keep_small_steps doesn't undo it
                    parameter.data = parameter.data.to(torch.bfloat16)
    return model.train()


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


def bytes_of(run: Run, model, pure: torch.dtype | None = None) -> int:
    """Of all weights: of a quantised model, its linear layers but for the head are, and what is trained isn't."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    small = set()
    if run.quantized:
        linear = (m for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head)
        small = {m.weight for m in linear if not m.weight.requires_grad}
    size = lambda p: run.quantized if p in small else (pure or p.dtype).itemsize  # noqa: E731
    return int(sum(p.numel() * size(p) for p in model.parameters()))


def engine(run: Run, models: list, frozen: int, pure: torch.dtype | None, result: Estimate) -> tuple[Counter, ...]:
    """What is there on each device through the whole run, while the loss is computed, and while the weights are updated."""
    weights, n = sum(bytes_of(run, model) for model in models), run.processes
    gradients = sum(p.numel() * p.element_size() for model in models for p in model.parameters() if p.requires_grad)
    always = Counter(weights=weights, frozen_models=frozen, optimizer=ADAM_STATES * gradients)
    if run.engine in ("none", "ddp"):
        always["buckets"] = gradients if run.engine == "ddp" else 0  # what DDP reduces is a copy
        return always, Counter(), Counter(gradients=gradients)
    width = gradients / result.trainable
    master = max(width, 4) * result.trainable  # DeepSpeed keeps a copy of its shard of the weights, in float32
    always["optimizer"] = (ADAM_STATES + 1) * master / n
    bucket = width * (min(result.trainable, BUCKET) if run.on_cpu else BUCKET)
    accumulated = gradients / (n if run.engine != "zero1" else 1)
    if run.engine in ("zero1", "zero2"):
        at_loss = Counter(buckets=0 if run.on_cpu else bucket, gradients=accumulated if run.accumulation > 1 else 0)
        at_update = Counter(buckets=bucket, gradients=accumulated + master / n)
    else:
        always += Counter(weights=weights / n - weights, frozen_models=frozen / n - frozen)
        always += Counter(gradients=accumulated, buckets=bucket)
        # DeepSpeed lets go of a layer at once where sampling breaks the order in which it saw the layers; its largest weight
        # is there then. Else it keeps up to MAX_LIVE. A bucket is copied to be reduced.
        largest = max(p.numel() for model in models for p in model.parameters())
        live = largest if run.recipe in ("grpo", "ppo") else min(result.parameters, MAX_LIVE)
        at_loss = Counter(gathered=weights * live / result.parameters)
        at_update = Counter(gradients=master / n, buckets=bucket)
    if run.offload_optimizer:
        result.host = int(always.pop("optimizer") + at_update.pop("gradients"))
    if run.offload_params:
        result.host += int(always.pop("weights"))
    return always, at_loss, at_update


def training(run: Run, models: list, pure) -> Counter:
    """Activations, logits and gradients at the peak of one optimizer step."""
    config = models[0].config
    live = Live(config.get_text_config().vocab_size)
    context = torch.autocast("cpu", run.amp, enabled=run.amp is not None and pure is None)
    trainable = [p for model in models for p in model.parameters() if p.requires_grad]
    sharded = run.engine not in ("none", "ddp")

    def arrived(parameter):
        live.call(parameter.grad, "gradients")
        if sharded:
            parameter.grad = None

    hooks = [p.register_post_accumulate_grad_hook(arrived) for p in trainable]
    with live:
        for model in models:
            for p in model.parameters():
                live.add(p, "weights")
        for _ in range(min(run.accumulation, 2)):
            with context:
                loss = LOSSES[run.recipe](run, models, live)
            live.backward = True
            loss.backward()
            live.backward = False
            del loss
    for hook in hooks:
        hook.remove()
    for p in trainable:
        p.grad = None
    return without(live.peak, "weights", *["gradients"] * sharded)  # those are in the engine's own buffers


def without(parts: Counter, *names: str) -> Counter:
    return Counter({name: size for name, size in parts.items() if name not in names})


def sequence(run: Run, rows: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens, (rows, length), and the mask that padding makes of a causal one, (rows, 1, length, length)."""
    ids = torch.ones(rows, length, dtype=torch.long)
    return ids, torch.ones(rows, 1, length, length, dtype=torch.bool).tril()


def outputs(run: Run, model, ids, mask, **kwargs) -> torch.Tensor:
    """Logits as the trainer gets them: Accelerate turns autocast's outputs to float32."""
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False, **kwargs).logits
    return logits.float() if torch.is_autocast_enabled("cpu") else logits


def grpo_loss(run: Run, models: list, live: Live) -> torch.Tensor:
    ids, mask = sequence(run, run.batch, run.prompt + run.completion)

    def model(**inputs):
        inputs.pop("use_cache"), inputs.pop("input_ids"), inputs.pop("attention_mask")
        return SimpleNamespace(logits=outputs(run, models[0], ids, mask, **inputs))

    of_trainer = SimpleNamespace(model_kwarg_keys={"logits_to_keep"}, temperature=1.0, _entropy_bonus_enabled=False)
    logps = GRPOTrainer._get_per_token_logps_and_entropies
    return logps(of_trainer, model, ids, mask, run.completion, compute_entropy=True)[0].mean()


def sft_loss(run: Run, models: list, live: Live) -> torch.Tensor:
    """TRL's chunked_nll: the head is applied to so many tokens at a time, and once more in the backward pass."""
    ids, mask = sequence(run, run.batch, run.prompt + run.completion)
    backbone, head = models[0].get_decoder(), models[0].get_output_embeddings()
    hidden = backbone(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    chosen = hidden[:, -run.completion :].reshape(-1, hidden.shape[-1])
    loss = 0.0
    for chunk in chosen.split(_CHUNKED_LM_HEAD_CHUNK_SIZE):
        labels = torch.ones(len(chunk), dtype=torch.long)
        arguments = (chunk, head.weight, None, labels, 1.0, None)
        loss = loss + torch.utils.checkpoint.checkpoint(_chunk, *arguments, use_reentrant=False)[0]
    return loss


def dpo_loss(run: Run, models: list, live: Live) -> torch.Tensor:
    ids, mask = sequence(run, 2 * run.batch, run.prompt + run.completion)
    logits = outputs(run, models[0], ids, mask)[:, :-1]
    logps = selective_log_softmax(logits, ids[:, 1:])
    with torch.no_grad():
        reference = outputs(run, models[0], ids, mask)[:, :-1]
        selective_log_softmax(reference, ids[:, 1:])
        for answers in logits.detach().chunk(2):  # their means are logged, over completions
            answers[:, -run.completion :].clone().mean()
    return logps.mean()


def scores(model, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """One value a token, (B, T, 1); under LoRA the layers are those of the model inside, with the adapters in them."""
    model = model.get_base_model() if hasattr(model, "get_base_model") else model
    hidden = getattr(model, model.base_model_prefix)(input_ids=ids, attention_mask=mask, use_cache=False)
    return model.score(hidden.last_hidden_state)


def reward_loss(run: Run, models: list, live: Live) -> torch.Tensor:
    ids, mask = sequence(run, 2 * run.batch, run.prompt + run.completion)
    return scores(models[0], ids, mask).float().mean()


def ppo_loss(run: Run, models: list, live: Live) -> torch.Tensor:
    policy, value = models
    ids, mask = sequence(run, run.batch, run.prompt + run.completion)
    logits = outputs(run, policy, ids, mask)[:, run.prompt - 1 : -1]
    logits /= 1.0 + 1e-7
    logps = selective_log_softmax(logits, ids[:, run.prompt :])
    values = scores(value, ids, mask)
    with torch.no_grad():  # for the entropy that is logged, once the graph is gone: the logits and two more
        probabilities = F.softmax(logits, dim=-1)
        torch.sum(probabilities * logits, dim=-1)
        del probabilities
    return logps.mean() + values.mean()


LOSSES = {"grpo": grpo_loss, "sft": sft_loss, "dpo": dpo_loss, "reward_model": reward_loss, "ppo": ppo_loss}


def sampling(run: Run, model, pure) -> Counter:
    """KV cache and logits while completions are sampled by transformers; the first pass over the prompts is run."""
    config = model.config.get_text_config()
    live = Live(config.vocab_size)
    dtype = pure or run.amp or run.dtype
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rows = run.forward_batch or run.sampled
    cache = 2 * config.num_hidden_layers * heads * head * (run.prompt + run.completion) * rows * dtype.itemsize
    with torch.no_grad(), live, torch.autocast("cpu", run.amp, enabled=run.amp is not None and pure is None):
        for p in model.parameters():
            live.add(p, "weights")
        ids, mask = sequence(run, rows, run.prompt)
        logits = outputs(run, model, ids, mask, logits_to_keep=1)[:, -1].float()
        F.softmax(logits, dim=-1)
    parts = without(live.peak, "weights") + Counter(kv_cache=cache)
    if run.vllm:
        parts = Counter()  # in its own memory, or on other devices
    if run.engine in ("zero3", "fsdp"):
        parts["gathered"] = bytes_of(run, model)  # the whole model, to sample from, or to send to vLLM
    if run.recipe == "ppo":  # it keeps every step's, stacks them, and joins the batches
        parts["logits"] = 3 * run.sampled * run.completion * config.vocab_size * 4
    return parts
