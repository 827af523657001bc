"""One training step of each trainer's own loss, and the sampling before it: peak live bytes, measured on fake tensors."""

from collections import Counter
from types import SimpleNamespace
from unittest import mock

import torch
from torch.nn import functional as F
from trl import GRPOTrainer
from trl.trainer.sft_trainer import _CHUNKED_LM_HEAD_CHUNK_SIZE, _chunk
from trl.trainer.utils import entropy_from_logits, selective_log_softmax

from recipes.preflight.model_shapes import Live, Workload, bytes_of


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
    with live:
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


def outputs(work: Workload, model, ids, mask, **kwargs) -> torch.Tensor:
    """Logits as the trainer gets them: Accelerate turns autocast's outputs to float32."""
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False, **kwargs).logits
    return logits.float() if torch.is_autocast_enabled("cpu") else logits


def grpo_loss(work: Workload, models: list) -> torch.Tensor:
    """PPO's too, whose value model reads along."""
    ids, mask = sequence(work, work.batch, work.prompt + work.completion)
    values = []

    def model(**inputs):
        inputs.pop("use_cache"), inputs.pop("input_ids"), inputs.pop("attention_mask")
        logits = outputs(work, models[0], ids, mask, **inputs)
        values.extend(scores(model, ids, mask) for model in models[1:])
        return SimpleNamespace(logits=logits)

    def one_chunk(logits, chunk_size=128):
        """TRL's, on the first chunk: the others take the same memory one after the other, and minutes at 5,000 tokens."""
        entropy_from_logits(logits.reshape(-1, logits.shape[-1])[:chunk_size], chunk_size)
        return logits.new_zeros(logits.shape[:-1])

    of_trainer = SimpleNamespace(model_kwarg_keys={"logits_to_keep"}, temperature=1.0, _entropy_bonus_enabled=False)
    logps = GRPOTrainer._get_per_token_logps_and_entropies
    with mock.patch("trl.trainer.grpo_trainer.entropy_from_logits", one_chunk):
        logps = logps(of_trainer, model, ids, mask, work.completion, compute_entropy=True)[0]
        return logps.mean() + sum(value.mean() for value in values)


def sft_loss(work: Workload, models: list) -> torch.Tensor:
    """TRL's chunked_nll: the head is applied to so many tokens at a time, and once more in the backward pass."""
    ids, mask = sequence(work, work.batch, work.prompt + work.completion)
    backbone, head = models[0].get_decoder(), models[0].get_output_embeddings()
    hidden = backbone(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    chosen = hidden[:, -work.completion :].reshape(-1, hidden.shape[-1])
    loss = 0.0
    for chunk in chosen.split(_CHUNKED_LM_HEAD_CHUNK_SIZE):
        labels = torch.ones(len(chunk), dtype=torch.long)
        arguments = (chunk, head.weight, None, labels, 1.0, None)
        loss = loss + torch.utils.checkpoint.checkpoint(_chunk, *arguments, use_reentrant=False)[0]
    return loss


def dpo_loss(work: Workload, models: list) -> torch.Tensor:
    ids, mask = sequence(work, 2 * work.batch, work.prompt + work.completion)
    logits = outputs(work, models[0], ids, mask)[:, :-1]
    logps = selective_log_softmax(logits, ids[:, 1:])
    with torch.no_grad():
        reference = outputs(work, models[0], ids, mask)[:, :-1]
        selective_log_softmax(reference, ids[:, 1:])
        for answers in logits.detach().chunk(2):  # their means are logged, over completions
            answers[:, -work.completion :].clone().mean()
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
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rows = work.sampled
    cache = 2 * config.num_hidden_layers * heads * head * (work.prompt + work.completion) * rows * dtype.itemsize
    with torch.no_grad(), live, torch.autocast("cpu", work.amp, enabled=work.amp is not None and pure is None):
        for p in model.parameters():
            live.add(p, "weights")
        ids, mask = sequence(work, rows, work.prompt)
        logits = outputs(work, model, ids, mask, logits_to_keep=1)[:, -1].float()
        F.softmax(logits, dim=-1)
    parts = without(live.peak, "weights") + Counter(kv_cache=cache)
    if work.vllm:
        parts = Counter()  # in its own memory, or on other devices
    if work.sharding in ("zero3", "fsdp"):
        # the complete models, to sample from, or to send to vLLM
        parts["gathered"] = sum(bytes_of(work, model) for model in models)
    return parts
