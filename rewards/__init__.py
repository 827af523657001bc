"""Reward functions in TRL's signature: rewards/<name>.py holds the function <name>, which is also its YAML key.

A reward is `name(completions, *, <columns it needs>, **_) -> list[float | None]`: one value per completion, 0.0 for a
wrong completion, None where the row itself can't be graded (its gold is broken), whatever the completion says.
"""

import difflib
import functools
import importlib
import inspect
import pkgutil


def names() -> list[str]:
    """Every reward there is: the modules of this folder, but for those whose name starts with an underscore."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


PASSED = ("log_metric", "completion_ids")  # have a default too, but come from the caller


def load(name: str, **options):
    """The reward function `name`, with its own options set, such as `load("think_format", prefilled_think=True)`.

    Raises ValueError, naming the nearest one, when there is no such reward, or no such option.
    """
    if name not in names():
        raise ValueError(f"reward {name!r} is unknown: {_nearest(name, names())}")
    reward = getattr(importlib.import_module(f"rewards.{name}"), name)
    parameters = inspect.signature(reward).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty and p.name not in PASSED}
    for option, value in options.items():
        if option not in defaults:
            raise ValueError(f"reward {name!r} has no option {option!r}: {_nearest(option, list(defaults))}")
        if type(value) is not type(defaults[option]):
            raise ValueError(f"reward {name!r}: {option}={value!r} is no {type(defaults[option]).__name__}")
    return functools.wraps(reward)(functools.partial(reward, **options)) if options else reward


def _nearest(value: str, known: list[str]) -> str:
    near = difflib.get_close_matches(value, known, n=1)
    return (f"did you mean {near[0]!r}? " if near else "") + f"there are {', '.join(known) or 'none'}"
