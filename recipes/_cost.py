"""What does the run cost? Its length, the memory of each device, the disk: each question is asked of a _findings.Check."""

import shutil
from dataclasses import fields
from pathlib import Path

import torch
from trl import ModelConfig

from recipes import _memory as memory
from recipes import _model
from recipes._findings import Check, Skipped, config_of, mixed, need

FULL, TIGHT = 0.95, 0.85  # shares of a device: the CUDA context and fragmentation are not in the estimate


def length_of_run(check: Check) -> None:
    n, per_device = check.launch.processes, check["per_device_train_batch_size"]
    batch_size = n * per_device * (check["gradient_accumulation_steps"] or 1)
    steps, epochs = check["max_steps"] or -1, check["num_train_epochs"] or 1
    if check.recipe == "ppo":
        episodes = check["total_episodes"] or epochs * check.total_rows
        steps, completions = -(-int(episodes) // batch_size), int(episodes)
    else:
        repeat = check["num_generations"] if check.recipe == "grpo" else 1
        if steps <= 0:
            need(check, "rows")
            steps = int(epochs * -(-check.total_rows * repeat // batch_size)) * (check["num_iterations"] or 1)
        completions = steps * batch_size // (check["num_iterations"] or 1)
    said = f"{steps:,} optimizer steps, {completions:,} "
    said += {"grpo": "completions", "ppo": "completions", "sft": "rows"}.get(check.recipe, "pairs")
    if check.total_rows:
        seen = completions / (check["num_generations"] if check.recipe == "grpo" else 1) / check.total_rows
        said += f", {seen:.2g} epochs"
    if check.lengths:
        tokens_ = completions * sum(check.lengths) * (1 if check.recipe in ("grpo", "ppo", "sft") else 2)
        said += f", {tokens_:,} tokens at most"
    check.steps = steps
    check.say("pass", "length", said)


def memory_of(check: Check) -> memory.Run:
    """Raises Skipped while the model or the rows are unknown."""
    need(check, "config", "lengths")
    per_device, accumulation = check["per_device_train_batch_size"], check["gradient_accumulation_steps"] or 1
    model_args = ModelConfig(**{f.name: check.given[f.name] for f in fields(ModelConfig) if f.name in check.given})
    peft_config = _model.peft_config(model_args)
    prompt, completion = check.lengths
    if check.recipe == "sft" and check["packing"]:
        prompt, completion = 0, check["max_length"]
    sampled = check["generation_batch_size"] or check.launch.processes * per_device * (
        check["steps_per_generation"] or accumulation
    )
    nested = memory.NF4_NESTED if check["use_bnb_nested_quant"] else memory.NF4
    vllm = check["vllm_mode"] if check["use_vllm"] else None
    vllm = "asleep" if vllm == "colocate" and check["vllm_enable_sleep_mode"] else vllm
    amp, dtype = mixed(check), check["dtype"]
    dtype = (check.config.dtype or torch.float32) if dtype in (None, "auto") else getattr(torch, dtype)
    return memory.Run(
        recipe=check.recipe,
        config=check.config,
        prompt=prompt,
        completion=completion,
        batch=per_device,
        accumulation=accumulation,
        sampled=sampled // check.launch.processes if check.recipe == "grpo" else per_device * accumulation,
        forward_batch=check["local_rollout_forward_batch_size"] if check.recipe == "ppo" else 0,
        dtype=dtype,
        amp=amp and getattr(torch, amp),
        peft_config=peft_config,
        quantized=nested if check["load_in_4bit"] else 1.0 if check["load_in_8bit"] else None,
        checkpointing=bool(check["gradient_checkpointing"]),
        value_model=config_of(check, "value_model"),
        reward_model=config_of(check, "reward_model"),
        reference=check.recipe in ("dpo", "ppo") or (check.recipe == "grpo" and (check["beta"] or 0) > 0),
        step_level=check["level"] == "step",
        vllm=vllm,
        vllm_bytes=int((check["vllm_gpu_memory_utilization"] or 0) * (device_bytes(check) or 0)),
        engine=check.launch.engine,
        processes=check.launch.processes,
        offload_optimizer=check.launch.offload_optimizer,
        offload_params=check.launch.offload_params,
        on_cpu=bool(check["use_cpu"]),
    )


def device_bytes(check: Check) -> float | None:
    """The size of one device's memory, as it was said or found; None where neither is known."""
    if check.device_gb or check["use_cpu"] or not torch.cuda.is_available():
        return check.device_gb and check.device_gb * 1e9
    return torch.cuda.get_device_properties(0).total_memory


def fits(check: Check) -> None:
    run = check.memory = memory_of(check)
    estimate = check.estimate = memory.estimate(run)
    size = device_bytes(check)
    moment, parts = estimate.worst
    need_gib = parts.total() / memory.GIB
    said = f"{need_gib:.2f} GiB a device, most of all while {moment} ("
    said += ", ".join(
        f"{name.replace('_', ' ')} {n / memory.GIB:.2f}" for name, n in parts.most_common() if n >= 0.005 * memory.GIB
    )
    said += f"); {estimate.parameters / 1e6:,.0f}M parameters, {estimate.trainable / 1e6:,.1f}M of them trained"
    if estimate.host:
        said += f"; on each machine {estimate.host * run.processes / check.launch.machines / memory.GIB:.1f} GiB beside"
    if size is None:
        check.say("pass", "memory", f"{said}; compare with your device, or say --device_gb")
        return
    share = parts.total() / size
    said += f"; {share:.0%} of {size / 1e9:.0f} GB"
    if share > FULL:
        raise ValueError(f"{said}: lower per_device_train_batch_size, say gradient_checkpointing: true, or shard")
    check.say("warn" if share > TIGHT else "pass", "memory", said)


def disk(check: Check) -> None:
    if check.estimate is None:
        raise Skipped("the size of the model is not known")
    run, estimate = check.memory, check.estimate
    width = 4 if run.engine.startswith("zero") else run.dtype.itemsize
    model = estimate.trainable * width if run.peft_config else estimate.parameters * run.dtype.itemsize
    states = estimate.trainable * width * (3 if run.engine.startswith("zero") else 2)
    every, limit = check["save_steps"] or 500, check["save_total_limit"]
    count = 0 if check["save_strategy"] == "no" else int(check.steps // every)
    count = min(count, limit + 1) if limit else count  # the oldest goes when the newest is whole
    size = count * (model + states) + model
    folder = Path(check["output_dir"] or ".").resolve()
    folder = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(folder).free
    said = f"{size / 1e9:.2f} GB: {count} checkpoints of {(model + states) / 1e9:.2f} GB and the result; {free / 1e9:,.0f} GB are free"
    if size > free:
        raise ValueError(f"{said}: lower save_total_limit, or name another output_dir")
    check.say("pass", "disk", said)


QUESTIONS = {"length": length_of_run, "memory": fits, "disk": disk}
