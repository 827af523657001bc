"""The findings of the preflight, and the state that its questions share."""

import contextlib
import sys
from dataclasses import dataclass, field

from recipes.shared import model_loading
from recipes.shared.run_config import RunConfig


class Skipped(Exception):
    """It can't be looked at here."""


@dataclass
class Findings:
    """A line for each question that was asked, and what later questions need of earlier ones."""

    config: RunConfig
    device_gb: float | None = None
    lines: list[tuple[str, str, str]] = field(default_factory=list)  # (status, question, text)
    tokenizer: object = None
    model_config: object = None
    rows: object = None
    reward_funcs: dict = field(default_factory=dict)
    total_rows: int = 0
    pass_rates: list = field(default_factory=list)
    prompts: int = 0  # sampled together: grpo, ppo
    steps: int = 0
    workload: object = None  # what the memory is estimated of, and the Estimate
    estimate: object = None
    lengths: tuple[int, int] | None = None  # the longest prompt, and the longest completion or answer after it

    def say(self, status: str, what: str, text: str) -> None:
        self.lines.append((status, what, " ".join(str(text).split())))

    @contextlib.contextmanager
    def question(self, what: str):
        """A ValueError inside is a failure, an unreachable hub a skip."""
        try:
            # dataset_rows says which rows it leaves out; here they are counted
            with contextlib.redirect_stdout(sys.stderr):
                yield
        except Skipped as reason:
            self.say("skip", what, reason)
        except ValueError as error:
            reached = not unreachable(error)
            self.say("fail" if reached else "skip", what, error if reached else f"the hub can't be reached: {error}")


def unreachable(error: BaseException | None) -> bool:
    """Whether it came from a hub that can't be reached, rather than from a name that isn't there."""
    while error is not None:
        if isinstance(error, ConnectionError) or "couldn't connect" in str(error).lower():
            return True
        error = error.__cause__
    return False


def need(found: Findings, *names: str) -> None:
    if missing := [name for name in names if getattr(found, name) is None]:
        raise Skipped(f"the {missing[0]} could not be had")


def as_it_runs(config: RunConfig) -> RunConfig:
    """With what a run that samples sets by itself: model_loading.without_dropout."""
    off = config.recipe in ("grpo", "ppo") and config.given.get("disable_dropout", True)
    return config.with_given(lora_dropout=0.0) if off else config


def model_config_of(config: RunConfig, key: str, revision: str = "main"):
    """The config.json of the model that a key names, None where it names none. Raises ValueError where it can't be read."""
    if not config[key]:
        return None
    return model_loading.config_of(config[key], revision, config["trust_remote_code"] or False, key)


def own_mixed_precision(config: RunConfig) -> str | None:
    """The mixed precision that the config itself asks for; TRL's configs say bf16 where nothing is said."""
    bf16 = config.given.get("bf16")
    if bf16 is None:
        bf16 = not config["fp16"]
    return "fp16" if config["fp16"] else "bf16" if bf16 else None


def mixed_precision(config: RunConfig) -> str | None:
    """The dtype of autocast, or under DeepSpeed of the model itself."""
    return {"bf16": "bfloat16", "fp16": "float16"}.get(own_mixed_precision(config) or config.launch.mixed_precision)
