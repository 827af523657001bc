"""The launch of a run: from an accelerate config, or from the environment of a process that was started by one."""

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import yaml


@dataclass
class Launch:
    """How many processes on how many machines, and what is sharded between them."""

    name: str = "one process, started by python"
    processes: int = 1
    machines: int = 1
    sharding: str = "none"  # none, ddp, fsdp, zero1, zero2, zero3
    mixed_precision: str = "no"
    use_cpu: bool | None = False  # None: it isn't said
    offload_optimizer: bool = False
    offload_params: bool = False
    visible_gpus: int = 0  # that a process started here sees; 0 where the run is for any machine

    @classmethod
    def of_file(cls, path: str) -> "Launch":
        """Raises ValueError where it isn't an accelerate config."""
        try:
            content = yaml.safe_load(Path(path).read_text())
            kind = content["distributed_type"]
        except (OSError, KeyError, TypeError, yaml.YAMLError) as error:
            raise ValueError(f"launch={path!r} isn't an accelerate config ({error!r})") from error
        deepspeed, count = content.get("deepspeed_config") or {}, content.get("num_processes", 1)
        stage = 0
        if kind == "DEEPSPEED":
            file, stage = deepspeed.get("deepspeed_config_file"), deepspeed.get("zero_stage")
            stage = _zero_stage(file) if stage is None else stage
        return cls(
            name=path,
            processes=count,
            machines=content.get("num_machines", 1),
            sharding="fsdp" if kind == "FSDP" else _sharding(stage, count),
            mixed_precision=str(content.get("mixed_precision", "no")),
            # accelerate leaves DeepSpeed out where the file says use_cpu: there it is the run's own key that decides
            use_cpu=None if kind == "DEEPSPEED" else bool(content.get("use_cpu")),
            offload_optimizer=deepspeed.get("offload_optimizer_device", "none") != "none",
            offload_params=deepspeed.get("offload_param_device", "none") != "none",
        )

    @classmethod
    def of_environment(cls) -> "Launch":
        """As accelerate launch, or torchrun, has started this process."""
        env, count = os.environ, int(os.environ.get("WORLD_SIZE", 1))
        on = lambda name: env.get(name, "false").lower() in ("true", "1")  # noqa: E731
        stage = 0
        if on("ACCELERATE_USE_DEEPSPEED"):
            file = env.get("ACCELERATE_DEEPSPEED_CONFIG_FILE")
            stage = (
                _zero_stage(file) if file else int(env.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", 2))
            )  # accelerate's default
        return cls(
            name="as launched" if count > 1 else cls.name,
            processes=count,
            machines=max(1, count // int(env.get("LOCAL_WORLD_SIZE", count))),
            sharding="fsdp" if on("ACCELERATE_USE_FSDP") else _sharding(stage, count),
            mixed_precision=env.get("ACCELERATE_MIXED_PRECISION", "no"),
            use_cpu=on("ACCELERATE_USE_CPU") if "ACCELERATE_USE_CPU" in env else None,
            offload_optimizer=env.get("ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE", "none") != "none",
            offload_params=env.get("ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE", "none") != "none",
            visible_gpus=torch.cuda.device_count(),
        )

    def with_keys(self, given: dict) -> "Launch":
        """The same with what a run's own keys say about sharding, transformers' `deepspeed` and `fsdp`. Raises ValueError."""
        if deepspeed := given.get("deepspeed"):
            return replace(self, sharding=_sharding(_zero_stage(deepspeed), self.processes))
        return replace(self, sharding="fsdp") if given.get("fsdp") else self


def _sharding(zero_stage: int, processes: int) -> str:
    """DeepSpeed's stage 0 shards nothing: it averages gradients, as DDP does."""
    return f"zero{zero_stage}" if zero_stage else "ddp" if processes > 1 else "none"


def _zero_stage(deepspeed: str | dict) -> int:
    """Of a DeepSpeed config, or of the JSON file that holds it."""
    try:
        content = deepspeed if isinstance(deepspeed, dict) else json.loads(Path(deepspeed).read_text())
        return int((content.get("zero_optimization") or {}).get("stage", 0))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"deepspeed={deepspeed!r} isn't a DeepSpeed config ({error})") from error
