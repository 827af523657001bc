"""Reward functions in TRL's signature: rewards/<name>.py holds the function <name>, which is also its YAML key.

A reward is `name(completions, *, <columns it needs>, **_) -> list[float | None]`: one value per completion, 0.0 for a
wrong completion, None where the row itself can't be graded (its gold is broken), whatever the completion says.
"""

import difflib
import importlib
import pkgutil


def names() -> list[str]:
    """Every reward there is: the modules of this folder, but for those whose name starts with an underscore."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def load(name: str):
    """The reward function `name`. Raises ValueError, naming the nearest one, when there is none."""
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"reward {name!r} is unknown: {hint}there are {', '.join(names())}")
    return getattr(importlib.import_module(f"rewards.{name}"), name)
