"""One training step of each trainer's own loss, and the sampling before it: peak live bytes, measured on fake tensors."""

import contextlib
from collections import Counter
from unittest import mock

import torch
from torch.nn import functional as F
from transformers.integrations import moe
from trl.kernels import chunked_logprob
from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE

from recipes.preflight.model_shapes import Live, Workload, bytes_of, kv_bytes


def training_memory(work: Workload, models: list, pure) -> Counter:
    """Activations, logits and gradients at the peak of one optimizer step."""
    config = models[0].config
    live = Live(config.get_text_config().vocab_size)
    context = torch.autocast("cpu", work.amp, enabled=work.amp is not None and pure is None)
    trainable = [p for model in models for p in model.parameters() if p.requires_grad]
    sharded = work.sharding not in ("none", "ddp")

    def arrived(parameter):
        live.call(parameter.grad, "gradients")
        if sharded:
            parameter.grad = None

    hooks = [p.register_post_accumulate_grad_hook(arrived) for p in trainable]
    with live, kernels(work):
        for model in models:
            for p in model.parameters():
                live.add(p, "weights")
        for _ in range(min(work.accumulation, 2)):
            with context:
                loss = LOSSES[work.recipe](work, models)
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


def sequence(work: Workload, rows: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens, (rows, length), and the mask that padding makes of a causal one, (rows, 1, length, length)."""
    ids = torch.ones(rows, length, dtype=torch.long)
    return ids, torch.ones(rows, 1, length, length, dtype=torch.bool).tril()


def log_probs(work: Workload, model, ids, mask) -> torch.Tensor:
    """Of the completions' tokens, as TRL's fused head makes them: no logits but those of a tile of tokens and vocabulary."""
    model = model.get_base_model() if hasattr(model, "get_base_model") else model
    hidden = model.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    # on a GPU only the tokens that have a label are scored, and kernels fold a tile where torch makes copies of it
    scored = hidden[:, :-1] if work.on_cpu else hidden[:, -work.completion - 1 : -1].clone()
    scored, head = scored.reshape(-1, hidden.shape[-1]), model.get_output_embeddings()
    labels = torch.ones(len(scored), dtype=torch.long)
    of_head = (
        scored,
        head.weight,
        head.bias,
        labels,
        1.0,
        _CHUNKED_LOGPROB_CHUNK_SIZE,
        None,
        1.0,
        OUTPUTS[work.recipe],
    )
    return chunked_logprob.ChunkedLogProbFunction.apply(*of_head)[0]


# what each trainer asks of the fused head beside log-probabilities
OUTPUTS = {"sft": ("entropy", "is_top1"), "dpo": ("entropy", "mean_logits", "is_top1")} | dict.fromkeys(
    ("grpo", "ppo"), ("entropy",)
)


@contextlib.contextmanager
def kernels(work: Workload):
    """On a GPU a tile is folded, and a product added, in place; experts are multiplied by what has shapes without storage."""
    in_place = () if work.on_cpu else ("_forward_tile", "_backward_tile", "_addmm_fp32")
    nothing = dict.fromkeys(in_place, lambda *args, **kwargs: None)
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(moe, "_can_use_grouped_mm", lambda *args: False))
        if nothing:
            stack.enter_context(mock.patch.multiple(chunked_logprob, **nothing))
        yield


def grpo_loss(work: Workload, models: list) -> torch.Tensor:
    """PPO's too, whose value model reads along."""
    ids, mask = sequence(work, work.batch, work.prompt + work.completion)
    logps = log_probs(work, models[0], ids, mask)
    return logps.mean() + sum(scores(model, ids, mask).float().mean() for model in models[1:])


def sft_loss(work: Workload, models: list) -> torch.Tensor:
    ids, mask = sequence(work, work.batch, work.prompt + work.completion)
    return log_probs(work, models[0], ids, mask).mean()


def dpo_loss(work: Workload, models: list) -> torch.Tensor:
    ids, mask = sequence(work, 2 * work.batch, work.prompt + work.completion)
    logps = log_probs(work, models[0], ids, mask)
    with torch.no_grad():
        log_probs(work, models[0], ids, mask)  # of the reference
    return logps.mean()


def scores(model, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """One value a token, (B, T, 1); under LoRA the layers are those of the model inside, with the adapters in them."""
    model = model.get_base_model() if hasattr(model, "get_base_model") else model
    hidden = getattr(model, model.base_model_prefix)(input_ids=ids, attention_mask=mask, use_cache=False)
    return model.score(hidden.last_hidden_state)


def reward_loss(work: Workload, models: list) -> torch.Tensor:
    ids, mask = sequence(work, 2 * work.batch, work.prompt + work.completion)
    return scores(models[0], ids, mask).float().mean()


LOSSES = {"grpo": grpo_loss, "sft": sft_loss, "dpo": dpo_loss, "reward_model": reward_loss, "ppo": grpo_loss}


def sampling_memory(work: Workload, models: list, pure) -> Counter:
    """KV cache and logits while completions are sampled by transformers; the first pass over the prompts is work."""
    model, config = models[0], models[0].config.get_text_config()
    live = Live(config.vocab_size)
    dtype = pure or work.amp or work.dtype
    rows = work.sampled
    cache = kv_bytes(config, dtype.itemsize) * (work.prompt + work.completion) * rows
    autocast = torch.autocast("cpu", work.amp, enabled=work.amp is not None and pure is None)
    with torch.no_grad(), live, kernels(work), autocast:
        for p in model.parameters():
            live.add(p, "weights")
        ids, mask = sequence(work, rows, work.prompt)
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=1).logits[:, -1].float()
        F.softmax(logits, dim=-1)
    parts = without(live.peak, "weights") + Counter(kv_cache=cache)
    if work.vllm:
        parts = Counter()  # in its own memory, or on other devices
    if work.sharding in ("zero3", "fsdp"):
        # the complete models, to sample from, or to send to vLLM
        parts["gathered"] = sum(bytes_of(work, model) for model in models)
    return parts
