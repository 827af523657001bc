"""The memory of a run on each device, estimated before anything is loaded.

The model is made in its true shapes from config.json, without storage (torch's FakeTensorMode), adapters included, and one
training step of the trainer's own loss runs on it: what autograd keeps is counted tensor by tensor, so attention, gradient
checkpointing, LoRA and the vocabulary's logits are what they are, for any architecture. What never meets that step is
arithmetic, from the sources of DeepSpeed 0.19: shards, master weights, optimizer states, buckets, gathered parameters.

Counted is what tensors take. Not counted: the CUDA context and NCCL (about 1 GiB), kernels' workspaces, and what the
allocator loses to fragmentation. `python benchmarks/memory.py` compares the estimate with measured peaks.
"""

from collections import Counter
from dataclasses import dataclass, field

import torch
from torch._subclasses import FakeTensorMode

from recipes.preflight.model_shapes import Workload, bytes_of, make, make_fake, sizes
from recipes.preflight.training_step import sampling_memory, training_memory

GIB = 2**30
ADAM_STATES = 2  # a mean and a variance for each weight that is trained
# nf4: half a byte a weight; a scale for each 64 of them, of 4 bytes, or quantised again to 1 (and 4 bytes for 256 of those)
NF4, NF4_NESTED = 0.5 + 4 / 64, 0.5 + 1 / 64 + 4 / (64 * 256)
# DeepSpeed's defaults, in elements, which the launch files don't change
BUCKET, MAX_LIVE = 5e8, 1e9


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


def estimate(work: Workload) -> Estimate:
    """The memory of a work. Raises ValueError for an adapter that doesn't fit the model."""
    pure = work.amp if work.sharding.startswith("zero") else None  # DeepSpeed casts the model, instead of autocast
    with torch.device("meta"):
        models = [make(work, work.config, "score" if work.recipe == "reward_model" else "causal")]
        if work.recipe == "ppo":
            models.append(make(work, work.value_model, "score"))
        if pure:
            models = [model.to(pure) for model in models]
        frozen = bytes_of(work, models[0]) if work.reference and not work.peft_config else 0
        if work.recipe == "ppo" and work.reward_model:
            frozen += bytes_of(work, make(work, work.reward_model, "score").to(pure))
    trainable = [p for model in models for p in model.parameters() if p.requires_grad]
    result = Estimate(
        parameters=sum(p.numel() for model in models for p in model.parameters()),
        trainable=sum(p.numel() for p in trainable),
    )
    always, at_loss, at_update = model_states(work, models, frozen, pure, result)
    with FakeTensorMode():
        for model in models:
            make_fake(model)
        result.moments = {
            "training": always + at_loss + training_memory(work, models, pure),
            "updating": always + at_update,
        }
        if work.recipe in ("grpo", "ppo"):
            result.moments["sampling"] = always + sampling_memory(work, models, pure)
    if (
        work.sharding in ("zero1", "zero2") and work.on_cpu
    ):  # the weights to save are copied to the CPU, which is the device
        result.moments["saving"] = always + Counter(copy=bytes_of(work, models[0]))
    for moment, parts in result.moments.items():
        if work.vllm == "colocate" or (work.vllm == "asleep" and moment == "sampling"):
            parts["vllm"] = work.vllm_bytes
    return result


def model_states(
    work: Workload, models: list, frozen: int, pure: torch.dtype | None, result: Estimate
) -> tuple[Counter, ...]:
    """What each device holds during the complete run, while the loss is computed, and while the weights are updated."""
    weights, n = sum(bytes_of(work, model) for model in models), work.processes
    gradients = sum(p.numel() * p.element_size() for model in models for p in model.parameters() if p.requires_grad)
    always = Counter(weights=weights, frozen_models=frozen, optimizer=ADAM_STATES * gradients)
    if work.sharding in ("none", "ddp"):
        always["buckets"] = gradients if work.sharding == "ddp" else 0  # what DDP reduces is a copy
        return always, Counter(), Counter(gradients=gradients)
    width = gradients / result.trainable
    master = max(width, 4) * result.trainable  # DeepSpeed keeps a copy of its shard of the weights, in float32
    always["optimizer"] = (ADAM_STATES + 1) * master / n
    bucket = width * (min(result.trainable, BUCKET) if work.on_cpu else BUCKET)
    accumulated = gradients / (n if work.sharding != "zero1" else 1)
    if work.sharding in ("zero1", "zero2"):
        at_loss = Counter(buckets=0 if work.on_cpu else bucket, gradients=accumulated if work.accumulation > 1 else 0)
        at_update = Counter(buckets=bucket, gradients=accumulated + master / n)
    else:
        always += Counter(weights=weights / n - weights, frozen_models=frozen / n - frozen)
        always += Counter(gradients=accumulated, buckets=bucket)
        # A bucket is copied to be reduced. DeepSpeed keeps up to MAX_LIVE weights, but lets go of each at once where sampling
        # breaks the order in which it saw the layers: the largest is there then, and what autograd holds on to for bitsandbytes.
        gathered = weights * min(1.0, MAX_LIVE / result.parameters)
        if work.recipe in ("grpo", "ppo"):
            parts = [sizes(work, model) for model in models]
            gathered = max(max(others) for _, others in parts)
            gathered += 0 if work.checkpointing else sum(sum(quantized) for quantized, _ in parts)
        at_loss = Counter(gathered=gathered)
        at_update = Counter(gradients=master / n, buckets=bucket)
    if work.offload_optimizer:
        at_loss.pop("gradients", None)
        result.host = int(always.pop("optimizer") + always.pop("gradients", 0) + at_update.pop("gradients"))
    if work.offload_params:
        result.host += int(always.pop("weights"))
    return always, at_loss, at_update
