"""Reward functions in TRL's signature: rewards/<name>.py holds the function <name>, which is also its YAML key.

A reward is `name(completions, *, <columns it needs>, **_) -> list[float | None]`: one value per completion, 0.0 for a
wrong completion, None where the row itself can't be graded (its gold is broken), whatever the completion says. A row that has
None in a column that the reward needs is another reward's, say math among programs: it isn't called with it, and gives None.
"""

import difflib
import functools
import importlib
import inspect
import math
import numbers
import pkgutil
import traceback
from pathlib import Path

# what callers pass in addition to the dataset's columns: the first two always, completion_ids where there are tokens, the rest in training
PASSED = ("completions", "prompts", "completion_ids", "prompt_ids", "trainer_state", "log_metric", "log_extra")
ALWAYS = PASSED[:2]


class RewardError(ValueError):
    """A reward broke its contract, or raised. The message is a line that names the reward, the row and the value."""

    def __init__(self, reward: str, wrong: str):
        super().__init__(f"reward {reward!r} {wrong}")
        self.reward = reward


def names() -> list[str]:
    """Every reward there is: the modules of this folder, but for those whose name starts with an underscore."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def load(name: str, **options):
    """The reward function `name`, with its own options set, such as `load("think_format", prefilled_think=True)`.

    What it gives is held to its contract: RewardError for anything but a list of one finite number or None a completion, and for
    an exception. Where its `of_gradable_rows` was set, as `recipes` does once broken rows are left out, also for None only. Raises ValueError, naming the nearest one, when there is no such reward or no such
    option, and where its file can't be imported or its function can't be called as rewards are.
    """
    if name not in names():
        raise ValueError(f"reward {name!r} is unknown: {_nearest(name, names())}")
    reward = _function(name)
    parameters = inspect.signature(reward).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty and p.name not in PASSED}
    for option, value in options.items():
        if option not in defaults:
            raise ValueError(f"reward {name!r} has no option {option!r}: {_nearest(option, list(defaults))}")
        if type(value) is not type(defaults[option]):
            raise ValueError(f"reward {name!r}: {option}={value!r} isn't a {type(defaults[option]).__name__}")

    needed = columns_of(reward)

    @functools.wraps(reward)
    def held_to_its_contract(completions, **given):
        completions = list(completions)
        mine = [i for i in range(len(completions)) if all(given[c][i] is not None for c in needed if c in given)]
        if completions and not mine:
            return [None] * len(completions)
        rows = given if len(mine) == len(completions) else _of_rows(mine, len(completions), given)
        of_mine = [completions[i] for i in mine]
        try:
            values = reward(completions=of_mine, **{**rows, **options})
        except Exception as error:
            if isinstance(error, ValueError) and not completions:
                raise  # it refuses its own options: recipes ask so, before a run
            raise RewardError(name, f"raised {_said(error, name)}") from error
        paid = dict(zip(mine, _checked(name, values, of_mine, held_to_its_contract.of_gradable_rows), strict=True))
        _log_by_dataset(name, paid, given)
        return [paid.get(i) for i in range(len(completions))]

    held_to_its_contract.of_gradable_rows = False
    return held_to_its_contract


def columns_of(reward) -> list[str]:
    """The columns that a reward can't do without."""
    return [p.name for p in _required(reward) if p.name not in ALWAYS]


def perfect_of(name: str):
    """The module's own `perfect(row) -> str | None`, the completion that a row's gold deserves; None where it has none.

    RewardError where it raises, or gives neither text nor None.
    """
    perfect = getattr(importlib.import_module(f"rewards.{name}"), "perfect", None)

    def held_to_its_contract(row):
        try:
            text = perfect(row)
        except Exception as error:
            raise RewardError(name, f"raised in perfect(): {_said(error, name)}") from error
        if text is not None and not isinstance(text, str):
            raise RewardError(
                name, f"has a perfect() that gave {text!r:.60}, a {type(text).__name__}, and not text or None"
            )
        return text

    return perfect and held_to_its_contract


def best_of(name: str) -> float:
    """What a perfect completion earns: the module's BEST, 1.0 where nothing is said."""
    return getattr(importlib.import_module(f"rewards.{name}"), "BEST", 1.0)


def _of_rows(mine: list[int], rows: int, given: dict) -> dict:
    """What callers pass, for these of the rows only."""
    of_mine = {k: [v[i] for i in mine] if isinstance(v, list) and len(v) == rows else v for k, v in given.items()}

    def log_extra(column: str, values: list) -> None:
        of = dict(zip(mine, values, strict=True))
        given["log_extra"](column, [of.get(i) for i in range(rows)])  # it takes a value a completion

    return of_mine | ({"log_extra": log_extra} if "log_extra" in given else {})


def _log_by_dataset(name: str, paid: dict[int, float | None], given: dict) -> None:
    """In a mixture, whose rows have the column `dataset`: rewards/<name>/<dataset>, the mean over its rows."""
    log, datasets = given.get("log_metric"), given.get("dataset")
    if log is None or not isinstance(datasets, list):
        return
    for i, value in paid.items():
        if value is not None and datasets[i] is not None:
            log(f"rewards/{name}/{datasets[i]}", value)


def _function(name: str):
    try:
        module = importlib.import_module(f"rewards.{name}")
    except (Exception, SystemExit) as error:
        raise ValueError(f"reward {name!r}: rewards/{name}.py can't be imported: {_said(error, name)}") from error
    reward = getattr(module, name, None)
    if not callable(reward) or inspect.iscoroutinefunction(reward):
        own = [n for n, f in vars(module).items() if inspect.isfunction(f) and f.__module__ == module.__name__]
        what = (
            f"has no function {name!r}" if reward is None else f"makes {name!r} something other than a plain function"
        )
        raise ValueError(f"reward {name!r}: rewards/{name}.py {what}: its functions are {', '.join(own) or 'none'}")
    parameters = inspect.signature(reward).parameters
    by_name = [p.name for p in parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    lacks = [] if "completions" in by_name else ["completions"]
    lacks += [] if any(p.kind is p.VAR_KEYWORD for p in parameters.values()) else ["**_ for what else callers pass"]
    if lacks:
        raise ValueError(f"reward {name!r}: {name}{inspect.signature(reward)} has to take {' and '.join(lacks)}")
    if passed := [p.name for p in _required(reward) if p.name in PASSED and p.name not in ALWAYS]:
        raise ValueError(f"reward {name!r}: not every caller passes {passed[0]}: give it a default, {passed[0]}=None")
    return reward


def _required(reward) -> list[inspect.Parameter]:
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return [p for p in inspect.signature(reward).parameters.values() if p.kind not in kinds and p.default is p.empty]


def _checked(name: str, values, completions: list, of_gradable_rows: bool) -> list[float | None]:
    if not isinstance(values, list | tuple):
        raise RewardError(
            name, f"gave {values!r:.60}, a {type(values).__name__}, and not a list of one value a completion"
        )
    if len(values) != len(completions):
        raise RewardError(name, f"gave {len(values)} values for {len(completions)} completions: one each is wanted")
    for row, value in enumerate(values):
        if value is not None and not (isinstance(value, numbers.Real) and math.isfinite(value)):
            raise RewardError(
                name, f"gave {value!r:.60} for row {row}, {_words_of(completions[row])!r:.80}: a finite number is wanted, or None "
                "where the row can't be graded"
            )  # fmt: skip
    if of_gradable_rows and values and all(value is None for value in values):
        raise RewardError(
            name, f"gave None for all {len(values)} completions, the first of them row 0, {_words_of(completions[0])!r:.80}: a "
            "completion that can't be read is wrong, 0.0, and None is for a row whose gold is broken"
        )  # fmt: skip
    return [value if value is None else float(value) for value in values]


def _words_of(completion) -> str:
    return completion if isinstance(completion, str) else "".join(str(m.get("content") or "") for m in completion)


def _said(error: BaseException, name: str) -> str:
    """What was raised, and the line of the reward where it went wrong; of a syntax error, its own."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{type(error).__name__}: {error.msg} ({Path(error.filename).name}, line {error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).name == f"{name}.py"] or frames
    return f"{type(error).__name__}: {error} ({Path(own[-1].filename).name}, line {own[-1].lineno})"


def _nearest(value: str, known: list[str]) -> str:
    near = difflib.get_close_matches(value, known, n=1)
    return (f"did you mean {near[0]!r}? " if near else "") + f"there are {', '.join(known) or 'none'}"
