"""The configuration of a run, made once: what was given, the defaults behind it, and how it is launched."""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace

from recipes.shared.launch import Launch

TRAINING = ("sft", "reward_model", "dpo", "ppo", "grpo")


class ConfigError(ValueError):
    """A configuration that can't be run, with all that is wrong with it in `problems`."""

    def __init__(self, problems: Iterable[str]):
        self.problems = list(problems)
        super().__init__("; ".join(self.problems))


@dataclass(frozen=True)
class RunConfig:
    """`config["key"]` is the value that the run will have; None for a null, and for a key that the recipe doesn't have."""

    recipe: str
    given: dict = field(default_factory=dict)  # the keys of the YAML file and of the command line
    defaults: dict = field(default_factory=dict)  # of the recipe's own dataclass and of its libraries'
    launch: Launch = field(default_factory=Launch)

    def __getitem__(self, key: str):
        return self.given[key] if self.given.get(key) is not None else self.defaults.get(key)

    def without(self, *keys: str) -> "RunConfig":
        """The same, as if these keys had not been given."""
        return replace(self, given={k: v for k, v in self.given.items() if k not in keys})

    def with_given(self, **keys) -> "RunConfig":
        """The same, as if these had been given."""
        return replace(self, given=self.given | keys)


def defaults_of(classes: tuple[type, ...]) -> dict:
    """The default of every field of these dataclasses that has one."""
    found = {}
    for f in (f for c in classes for f in fields(c)):
        if f.default is not MISSING:
            found[f.name] = f.default
        elif f.default_factory is not MISSING:
            found[f.name] = f.default_factory()
    return found


def refusal(call: Callable, *args, **kwargs) -> Iterator[str]:
    """The message of the ValueError that the call raises, if it raises one."""
    try:
        call(*args, **kwargs)
    except ValueError as error:
        yield str(error)


def nearest(value: str, known) -> str:
    """What may have been meant, for an error message."""
    near = difflib.get_close_matches(value, list(known), n=1)
    return (f"did you mean {near[0]!r}? " if near else "") + f"there are {', '.join(known) or 'none'}"


def unknown_choices(config: RunConfig, choices: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    """Values that aren't among a key's choices, each with those that are; a list is looked through."""
    for key, known in choices.items():
        values = config.given.get(key, [])
        for value in values if isinstance(values, list) else [values]:
            if value not in known:
                yield f"{key}={value!r}: {nearest(str(value), known)}"
