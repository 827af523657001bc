"""Does the scorer of the row's own task take the final answer? For rows of data/reasoning_gym.py (arXiv 2505.24760).

Needs `pip install -e '.[gym]'`. The scorers are that package's, and run in this process without a deadline: those that run
text as a program, or that an answer of 4,000 characters keeps busy for more than a moment, are refused, also for rows of a file.
"""

import contextlib
import functools
import io
import json
import warnings

from rewards._text import final_answer, text_of

MAX_ANSWER = 4000  # characters
# what is wrong with it -> tasks; the same stands in data/reasoning_gym.py, which says how it was found
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
BROKEN = TypeError, ValueError, KeyError, AttributeError, AssertionError, RecursionError


def reasoning_gym(completions, *, entry: list[str], binary: bool = True, **_) -> list[float | None]:
    """1.0 where the scorer gives 1.0, else 0.0; None where the entry can't be read, or its scorer doesn't take its own answer.

    binary: false pays what the scorer gives. Many give up to 0.05 for any text, and some 0.9 for one that is near: guessing pays.
    Raises ValueError for a task that is refused, and where the package isn't there.
    """
    return [score(text_of(c), e, binary) for c, e in zip(completions, entry, strict=True)]


def score(text: str, entry: str | None, binary: bool = True) -> float | None:
    if not isinstance(entry, str) or not gradable(entry):
        return None
    value = paid(text, entry)
    return float(value == 1.0) if binary else value


@functools.lru_cache(maxsize=512)
def gradable(entry: str) -> bool:
    """Whether the entry can be read, and its own answer, where it has one, is paid in full: a blank one isn't, or one in another form."""
    try:
        raw = json.loads(entry)
        task, answer, _, _ = raw["task"], raw["answer"], raw["config"], raw["metadata"]
    except BROKEN:
        return False
    if why := next((why for why, tasks in REFUSED.items() if task in tasks.split()), None):
        raise ValueError(f"task={task!r} is refused: {why}")
    try:
        import reasoning_gym.factory  # noqa: F401
    except ImportError as error:
        raise ValueError(f"reward 'reasoning_gym' needs its package ({error}): pip install -e '.[gym]'") from error
    try:
        _scorer(task, json.dumps(raw["config"]))
        return answer is None or paid(dressed(answer), entry) == 1.0
    except BROKEN:
        return False


def paid(text: str, entry: str) -> float:
    """What the task's scorer gives the final answer."""
    answer = final_answer(text)
    if answer is None or len(answer) > MAX_ANSWER:
        return 0.0
    raw = json.loads(entry)  # anew each time: knight_swap's scorer writes into it
    scorer = _scorer(raw["task"], json.dumps(raw["config"]))
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            value = scorer(answer, raw)
        except Exception:  # whatever it raises is about this answer: it took the entry's own
            return 0.0
    return float(value) if 0 <= value <= 1 else 0.0


@functools.lru_cache(maxsize=128)
def _scorer(task: str, config: str):
    """The scorer of a task with this config, JSON: some compare by it."""
    from reasoning_gym.factory import create_dataset

    return create_dataset(task, size=1, seed=0, **json.loads(config)).score_answer


def perfect(row: dict) -> str | None:
    """The entry's own answer in tags; None where it has none."""
    answer = json.loads(row["entry"])["answer"]
    return answer and dressed(answer)


def dressed(answer: str) -> str:
    return f"<think>I work it out step by step.</think><answer>{answer}</answer>"
