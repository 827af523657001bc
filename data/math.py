"""MATH (arXiv 2103.03874): competition problems of five levels, whose final answers are exact.

Raw row, as in MATH-500: {"problem": str, "answer": str, "level": 1 to 5, ...}.
"""

from datasets import Dataset

from data import _source

# the 12,000 + 500 of arXiv 2305.20050: what SimpleRL-Zoo and Dr. GRPO train on leaves MATH-500 out, and so does this
HUB = "nlile/hendrycks-MATH-benchmark"
COLUMNS = ("problem", "answer", "level")  # without the level, OpenR1-Math-220k's traces would be taken for this
SPLITS = ("train", "test")
LEVELS = (1, 2, 3, 4, 5)


def load(split: str, *, levels: list[int] = LEVELS) -> Dataset:
    """MATH from the hub, the problems of these levels: 12,000 to train on, of all; the test split is MATH-500.

    Raises ValueError where `levels` names none of 1 to 5, or another.
    """
    if not levels or not set(levels) <= set(LEVELS):
        raise ValueError(f"levels={levels!r} must be some of {list(LEVELS)}")
    raw = _source.read(HUB, split)
    return _source.to_rows(raw.filter(lambda row: level_of(row["level"]) in levels), to_row)


def to_row(raw: dict) -> dict:
    """`answer` is None where it, or the problem, is missing: such a row can't be graded."""
    answer = "" if raw["answer"] is None else str(raw["answer"]).strip()
    return {
        "prompt": [{"role": "user", "content": raw["problem"] or ""}],
        "answer": (answer or None) if raw["problem"] else None,
    }


def level_of(level: int | str | None) -> int | None:
    """3 for 3, "3" and "Level 3"; None for the original set's "Level ?"."""
    digits = str(level).removeprefix("Level ")
    return int(digits) if digits.isdigit() else None
