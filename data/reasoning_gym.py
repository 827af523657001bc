"""Reasoning Gym (arXiv 2505.24760): rows of some eighty tasks of logic, algorithms, games and arithmetic, made on the spot. Apache-2.0.

Needs `pip install -e '.[gym]'`; the reward is rewards/reasoning_gym.py. A question belongs to one split, by its hash.
Raw row: {"task": str, "config": {...}, "question": str, "answer": str or None, "metadata": {...}}, all of which becomes `entry`.
"""

import contextlib
import dataclasses
import decimal
import difflib
import hashlib
import io
import json
import random
from collections.abc import Iterator

import numpy
from datasets import Dataset, Features, Value

from data import _rows

SPLITS = ("train", "test")
GIVES = Features(_rows.PROBLEM | {"task": Value("string"), "entry": Value("string")})
CHUNK = 1000  # rows: some tasks make as many at once, some read their words anew for each chunk
TRIES = 1000
# what is wrong with it -> tasks. The same stands in rewards/reasoning_gym.py, since neither folder imports the other, and entries
# may come from a file; measured with version 0.1.25
REFUSED = {
    "its scorer runs text as Python": "binary_matrix bitwise_arithmetic countdown intermediate_integration n_queens number_sorting "
    "polynomial_multiplication puzzle24 simple_integration spiral_matrix string_insertion",
    "some answers keep its scorer busy for more than 15 seconds": "codeio coin_flip propositional_logic rubiks_cube rush_hour",
    "its scorer pays in full without merit": "complex_arithmetic game_of_life_halting",
    "its scorer takes no right answer once the row was JSON": "arc_agi rearc",
    "it makes other rows in each process": "isomorphic_strings list_functions ransom_note",
    "its scorer is not known to take any answer": "boxnet",
    "it is a mixture of tasks, which `dataset` can be itself": "composite",
}


def load(split: str, *, task: str = "", rows: int = 2000, seed: int = 0, task_config: dict | None = None) -> Dataset:
    """`rows` distinct questions of a task; task_config: the package's own of that task, such as {max_animals: 5}.

    Raises ValueError for a task that isn't there or is refused, for a config that it doesn't take, and where there are fewer rows.
    """
    tasks, config = _tasks(task), task_config or {}
    try:
        json.dumps(config)
        _made(tasks[task], 1, 0, config)
    except (TypeError, ValueError, AssertionError) as error:
        fields = ", ".join(f.name for f in dataclasses.fields(tasks[task][1]) if f.name not in ("size", "seed"))
        raise ValueError(f"task_config={config!r} of task {task!r}: {error}; there are {fields}") from error
    if not isinstance(seed, int) or rows < 1:
        raise ValueError(f"seed={seed!r} must be a whole number and rows={rows!r} at least 1")
    found, in_vain = {}, 0
    with _apart():
        for raw in _entries(tasks[task], seed, config):
            in_vain += 1
            if raw and split_of(raw["question"]) == split and raw["question"] not in found:
                found[raw["question"]] = to_row({"task": task, "config": config} | raw)
                in_vain = 0
            if len(found) == rows:
                return Dataset.from_list(list(found.values()), features=GIVES)
            if in_vain == TRIES:
                raise ValueError(
                    f"rows={rows}: no more than {len(found)} questions of split {split!r} with task={task!r} were found, and then none "
                    f"in {TRIES:,} tries: lower rows, or widen task_config"
                )


def to_row(raw: dict) -> dict:
    entry = json.dumps(raw, default=str)  # gsm_symbolic's metadata has fractions
    return _rows.problem(raw["question"], raw["answer"]) | {"task": raw["task"], "entry": entry}


def split_of(question: str) -> str:
    """The split a question belongs to, half of them each: tasks with few questions would have them in both."""
    return SPLITS[hashlib.sha256(question.encode()).digest()[0] % 2]


def _tasks(task: str) -> dict[str, tuple[type, type]]:
    """The package's tasks. Raises ValueError where this one isn't among them or is refused, and where there is no package."""
    if why := next((why for why, tasks in REFUSED.items() if task in tasks.split()), None):
        raise ValueError(f"task={task!r} is refused: {why}")
    try:
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise ValueError(f"dataset 'reasoning_gym' needs its package ({error}): pip install -e '.[gym]'") from error
    if task not in DATASETS:
        refused = " ".join(REFUSED.values()).split()
        names = sorted(set(DATASETS) - set(refused))
        near = difflib.get_close_matches(task, names, n=1)
        raise ValueError(
            f"task={task!r} is unknown: {f'did you mean {near[0]!r}? ' if near else ''}there are {', '.join(names)}"
        )
    return DATASETS


def _made(task: tuple[type, type], size: int, seed: int, config: dict):
    of_task, its_config = task
    return of_task(its_config(size=size, seed=seed, **config))


def _entries(task: tuple[type, type], seed: int, config: dict) -> Iterator[dict | None]:
    """A task's rows without end. Row i is row 0 of the seed that is i more, so seeds are put far apart first."""
    at = random.Random(seed).randrange(2**31)
    while True:
        made = _made(task, CHUNK, at, config)
        for i in range(CHUNK):
            try:
                raw = made[i]
            except RuntimeError:  # maze gives up on one in thousands
                raw = None
            yield raw
        at += CHUNK


@contextlib.contextmanager
def _apart() -> Iterator[None]:
    """What tasks set for the whole process is as before: numpy's random state, the precision of decimals, what is printed."""
    state = numpy.random.get_state()
    try:
        with decimal.localcontext(), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        numpy.random.set_state(state)
