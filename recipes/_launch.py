"""How a run is started: an accelerate config, or the environment of a process that was launched by one."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import yaml


@dataclass
class Launch:
    """How a run is started: what of an accelerate file, or of a launched process's environment, matters here."""

    name: str = "one process, started by python"
    processes: int = 1
    machines: int = 1
    engine: str = "none"
    mixed_precision: str = "no"
    use_cpu: bool | None = False  # None: it isn't said
    offload_optimizer: bool = False
    offload_params: bool = False

    @classmethod
    def of_file(cls, path: str) -> "Launch":
        """Raises ValueError where it is no accelerate config."""
        try:
            content = yaml.safe_load(Path(path).read_text())
            kind = content["distributed_type"]
        except (OSError, KeyError, TypeError, yaml.YAMLError) as error:
            raise ValueError(f"launch={path!r} is no accelerate config ({error!r})") from error
        deepspeed, count = content.get("deepspeed_config") or {}, content.get("num_processes", 1)
        engine = {"DEEPSPEED": f"zero{deepspeed.get('zero_stage')}", "FSDP": "fsdp"}.get(
            kind, "ddp" if count > 1 else "none"
        )
        return cls(
            name=path,
            processes=count,
            machines=content.get("num_machines", 1),
            engine=engine,
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
        engine = "ddp" if count > 1 else "none"
        if on("ACCELERATE_USE_DEEPSPEED"):
            engine = f"zero{env.get('ACCELERATE_DEEPSPEED_ZERO_STAGE')}"
        elif on("ACCELERATE_USE_FSDP"):
            engine = "fsdp"
        return cls(
            name="as launched" if count > 1 else cls.name,
            processes=count,
            machines=max(1, count // int(env.get("LOCAL_WORLD_SIZE", count))),
            engine=engine,
            mixed_precision=env.get("ACCELERATE_MIXED_PRECISION", "no"),
            use_cpu=on("ACCELERATE_USE_CPU") if "ACCELERATE_USE_CPU" in env else None,
            offload_optimizer=env.get("ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE", "none") != "none",
            offload_params=env.get("ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE", "none") != "none",
        )


@contextlib.contextmanager
def as_launched(launch: Launch):
    """What a recipe's check sees of a launch: how many processes there are, and FSDP."""
    fsdp = "true" if launch.engine == "fsdp" else "false"
    said = {"WORLD_SIZE": str(launch.processes), "ACCELERATE_USE_FSDP": fsdp}
    before = {key: os.environ.get(key) for key in said}
    os.environ.update(said)
    try:
        yield
    finally:
        for key, value in before.items():
            os.environ.pop(key) if value is None else os.environ.__setitem__(key, value)
