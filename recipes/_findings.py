"""One check of a run: its keys, what has been found, and what one question leaves to the next."""

import contextlib
import sys
from dataclasses import dataclass, field

from transformers import AutoConfig

from recipes._launch import Launch


class Skipped(Exception):
    """It can't be looked at here."""


@dataclass
class Check:
    """The run's keys, what was found, and what one question leaves to the next."""

    recipe: str
    argv: list[str]
    launch: Launch
    device_gb: float | None = None
    given: dict = field(default_factory=dict)
    defaults: dict = field(default_factory=dict)
    findings: list[tuple[str, str, str]] = field(default_factory=list)
    tokenizer: object = None
    config: object = None
    rows: object = None
    reward_funcs: dict = field(default_factory=dict)
    total_rows: int = 0
    steps: int = 0
    memory: object = None  # what is estimated, a _memory.Run, and its Estimate
    estimate: object = None
    lengths: tuple[int, int] | None = None  # the longest prompt, and the longest completion or row behind it

    def __getitem__(self, key: str):
        return self.given[key] if self.given.get(key) is not None else self.defaults.get(key)

    def say(self, status: str, what: str, text: str) -> None:
        self.findings.append((status, what, " ".join(str(text).split())))

    @contextlib.contextmanager
    def question(self, what: str):
        """A ValueError inside is a failure, an unreachable hub a skip."""
        try:
            with contextlib.redirect_stdout(sys.stderr):  # rows left out are said by _rows, and counted here
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


def need(check: Check, *names: str) -> None:
    if missing := [name for name in names if getattr(check, name) is None]:
        raise Skipped(f"the {missing[0]} could not be had")


def config_of(check: Check, key: str, revision: str = "main"):
    """The config.json of the model that a key names, None where it names none. Raises ValueError where it can't be read."""
    if not check[key]:
        return None
    try:
        return AutoConfig.from_pretrained(
            check[key], revision=revision, trust_remote_code=check["trust_remote_code"] or False
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{key}={check[key]!r}: its config.json can't be read ({reason})") from error


def mixed_here(check: Check) -> str | None:
    """The mixed precision that the config itself asks for; TRL's configs say bf16 where nothing is said."""
    bf16 = check.given.get("bf16")
    if bf16 is None:
        bf16 = check.recipe != "ppo" and not check["fp16"]
    return "fp16" if check["fp16"] else "bf16" if bf16 else None


def mixed(check: Check) -> str | None:
    """The dtype of autocast, or under DeepSpeed of the whole model."""
    return {"bf16": "bfloat16", "fp16": "float16"}.get(mixed_here(check) or check.launch.mixed_precision)
