"""The cost of a run: questions about its length, the memory of each device, the disk."""

import math
import shutil
from dataclasses import fields, replace
from pathlib import Path

import torch
from trl import ModelConfig

from recipes.preflight import memory
from recipes.preflight.findings import Findings, Skipped, as_it_runs, mixed_precision, model_config_of, need
from recipes.preflight.model_shapes import Workload, kv_bytes, make
from recipes.shared import model_loading
from recipes.shared.reward_models import first_layers
from recipes.shared.run_config import RunConfig

FULL, TIGHT = 0.95, 0.85  # shares of a device: the CUDA context and fragmentation are not in the estimate


def length_of_run(config: RunConfig, found: Findings) -> None:
    n, per_device = config.launch.processes, config["per_device_train_batch_size"]
    batch_size = n * per_device * (config["gradient_accumulation_steps"] or 1)
    steps, epochs = config["max_steps"] or -1, config["num_train_epochs"] or 1
    repeat = config["num_generations"] if config.recipe in ("grpo", "ppo") else 1
    iterations = config["num_ppo_epochs"] or config["num_iterations"] or 1
    if steps <= 0:
        need(found, "rows")
        steps = int(epochs * -(-found.total_rows * repeat // batch_size)) * iterations
    completions = steps * batch_size // iterations
    text = f"{steps:,} optimizer steps, {completions:,} "
    text += {"grpo": "completions", "ppo": "completions", "sft": "rows"}.get(config.recipe, "pairs")
    if found.total_rows:
        seen = completions / repeat / found.total_rows
        text += f", {seen:.2g} epochs"
    if found.lengths:
        tokens_ = completions * sum(found.lengths) * (1 if config.recipe in ("grpo", "ppo", "sft") else 2)
        text += f", {tokens_:,} tokens at most"
    found.steps = steps
    found.say("pass", "length", text)


def workload_of(config: RunConfig, found: Findings) -> Workload:
    """Raises Skipped while the model or the rows are unknown."""
    need(found, "model_config", "lengths")
    per_device, accumulation = config["per_device_train_batch_size"], config["gradient_accumulation_steps"] or 1
    given = as_it_runs(config).given
    model_args = ModelConfig(**{f.name: given[f.name] for f in fields(ModelConfig) if f.name in given})
    peft_config = model_loading.peft_config(model_args)
    prompt, completion = found.lengths
    if config.recipe == "sft" and config["packing"]:
        prompt, completion = 0, config["max_length"]
    sampled = config["generation_batch_size"] or config.launch.processes * per_device * (
        config["steps_per_generation"] or accumulation * (config["num_mini_batches"] or 1)
    )
    value_config = (
        model_config_of(config, "value_model") or model_config_of(config, "reward_model") or found.model_config
    )
    nested = memory.NF4_NESTED if config["use_bnb_nested_quant"] else memory.NF4
    vllm = config["vllm_mode"] if config["use_vllm"] else None
    vllm = "asleep" if vllm == "colocate" and config["vllm_enable_sleep_mode"] else vllm
    amp, dtype = mixed_precision(config), config["dtype"]
    dtype = (found.model_config.dtype or torch.float32) if dtype in (None, "auto") else getattr(torch, dtype)
    return Workload(
        recipe=config.recipe,
        config=found.model_config,
        prompt=prompt,
        completion=completion,
        batch=per_device,
        accumulation=accumulation,
        sampled=sampled // config.launch.processes,
        dtype=dtype,
        amp=amp and getattr(torch, amp),
        peft_config=peft_config,
        quantized=nested if config["load_in_4bit"] else 1.0 if config["load_in_8bit"] else None,
        checkpointing=bool(config["gradient_checkpointing"]),
        value_model=first_layers(value_config, config["value_layers"]) if config.recipe == "ppo" else None,
        reward_model=model_config_of(config, "reward_model"),
        reference=config.recipe == "dpo" or (config["kl_coef" if config.recipe == "ppo" else "beta"] or 0) > 0,
        step_level=config["level"] == "step",
        vllm=vllm,
        vllm_bytes=int((config["vllm_gpu_memory_utilization"] or 0) * (device_bytes(config, found) or 0)),
        sharding=config.launch.sharding,
        processes=config.launch.processes,
        offload_optimizer=config.launch.offload_optimizer,
        offload_params=config.launch.offload_params,
        on_cpu=bool(config["use_cpu"]),
    )


def device_bytes(config: RunConfig, found: Findings) -> float | None:
    """The size of one device's memory, as it was given or found; None where neither is known."""
    if found.device_gb or config["use_cpu"] or not torch.cuda.is_available():
        return found.device_gb and found.device_gb * 1e9
    return torch.cuda.get_device_properties(0).total_memory


def fits(config: RunConfig, found: Findings) -> None:
    work = found.workload = workload_of(config, found)
    estimate = found.estimate = memory.estimate(work)
    size = device_bytes(config, found)
    moment, parts = estimate.worst
    need_gib = parts.total() / memory.GIB
    text = f"{need_gib:.2f} GiB a device at its peak, while {moment} ("
    text += ", ".join(
        f"{name.replace('_', ' ')} {n / memory.GIB:.2f}" for name, n in parts.most_common() if n >= 0.005 * memory.GIB
    )
    text += f"); {estimate.parameters / 1e6:,.0f}M parameters, {estimate.trainable / 1e6:,.1f}M of them trained"
    if estimate.host:
        text += f"; on each machine {estimate.host * work.processes / config.launch.machines / memory.GIB:.1f} GiB of the machine's own"
    if size is None:
        found.say("pass", "memory", f"{text}; compare with your device, or say --device_gb")
        return
    share = parts.total() / size
    text += f"; {share:.0%} of {size / 1e9:.0f} GB"
    if share > FULL:
        raise ValueError(f"{text}: lower per_device_train_batch_size, say gradient_checkpointing: true, or shard")
    found.say("warn" if share > TIGHT else "pass", "memory", text)


def engine(config: RunConfig, found: Findings) -> None:
    """vLLM inside the trainer: whether its share of a device holds the model and the KV cache of what is sampled."""
    if not config["use_vllm"] or config["vllm_mode"] != "colocate":
        return
    work, share = found.workload, config["vllm_gpu_memory_utilization"]
    if work is None:
        raise Skipped("the size of the model is not known")
    with torch.device("meta"):
        model = make(replace(work, peft_config=None, quantized=None), work.config, "causal")
    tensor_parallel, text = config["vllm_tensor_parallel_size"], work.config.get_text_config()
    half = 2  # bytes: vLLM's dtype is auto, which is half precision for a float32 model too
    weights = half * sum(p.numel() for p in model.parameters()) / tensor_parallel
    a_token = kv_bytes(text, half) / tensor_parallel
    context = config["vllm_max_model_length"] or text.max_position_embeddings
    least = weights + a_token * context
    said = f"in each device vLLM has {weights / 1e9:.2f} GB of weights and, a completion of {context:,} tokens, "
    said += f"{a_token * context / 1e9:.2f} GB of KV cache"
    if (size := device_bytes(config, found)) is None:
        found.say("pass", "vLLM", f"{said}, of vllm_gpu_memory_utilization={share:g} of the device; say --device_gb")
        return
    if least > share * size:
        raise ValueError(
            f"{said}: more than vllm_gpu_memory_utilization={share:g} of {size / 1e9:.0f} GB; raise it to "
            f"{math.ceil(110 * least / size) / 100:g}, or lower vllm_max_model_length"
        )
    at_once = int((share * size - weights) / (a_token * context))
    found.say(
        "pass",
        "vLLM",
        f"{said}; with {share:g} of {size / 1e9:.0f} GB it samples {at_once:,} of them at a time, of {work.sampled:,} a device "
        "(less what its kernels and CUDA graphs take)",
    )


def disk(config: RunConfig, found: Findings) -> None:
    if found.estimate is None:
        raise Skipped("the size of the model is not known")
    work, estimate = found.workload, found.estimate
    width = 4 if work.sharding.startswith("zero") else work.dtype.itemsize
    model = estimate.trainable * width if work.peft_config else estimate.parameters * work.dtype.itemsize
    states = estimate.trainable * width * (3 if work.sharding.startswith("zero") else 2)
    every, limit = config["save_steps"] or 500, config["save_total_limit"]
    every = every if every >= 1 else max(1, math.ceil(every * found.steps))  # a share of the run
    count = (
        0 if config["save_strategy"] == "no" else math.ceil(found.steps / every)
    )  # the Trainer saves the last step too
    count = min(count, limit + 1) if limit else count  # the oldest is removed when the newest is complete
    size = count * (model + states) + model
    folder = Path(config["output_dir"] or ".").resolve()
    folder = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(folder).free
    text = f"{size / 1e9:.2f} GB: {count} checkpoints of {(model + states) / 1e9:.2f} GB and the result; {free / 1e9:,.0f} GB are free"
    if size > free:
        raise ValueError(f"{text}: lower save_total_limit, or name another output_dir")
    found.say("pass", "disk", text)


QUESTIONS = {"length": length_of_run, "memory": fits, "vLLM": engine, "disk": disk}
