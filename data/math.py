"""MATH (arXiv 2103.03874): competition problems of five levels, whose final answers are exact.

Raw row, as in MATH-500: {"problem": str, "answer": str, "level": 1 to 5, ...}.
"""

from datasets import Dataset

from data import _rows

# the 12,000 + 500 of arXiv 2305.20050: what SimpleRL-Zoo and Dr. GRPO train on leaves MATH-500 out, and so does this
HUB = "nlile/hendrycks-MATH-benchmark"
COLUMNS = ("problem", "answer", "level")  # without the level, OpenR1-Math-220k's traces would be taken for this
SPLITS = ("train", "test")
GIVES = _rows.PROBLEM
LEVELS = (1, 2, 3, 4, 5)


def select(raw: Dataset, *, levels: list[int] = LEVELS) -> Dataset:
    """The problems of these levels. Raises ValueError where `levels` names none of 1 to 5, or another."""
    if not levels or not set(levels) <= set(LEVELS):
        raise ValueError(f"levels={levels!r} must be some of {list(LEVELS)}")
    if set(levels) == set(LEVELS):
        return raw  # with the original set's "Level ?"
    return raw.filter(lambda row: level_of(row["level"]) in levels)


def to_row(raw: dict) -> dict:
    return _rows.problem(raw["problem"], raw["answer"])


def level_of(level: int | str | None) -> int | None:
    """3 for 3, "3" and "Level 3"; None for the original set's "Level ?"."""
    digits = str(level).removeprefix("Level ")
    return int(digits) if digits.isdigit() else None
