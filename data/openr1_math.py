"""OpenR1-Math-220k: problems of NuminaMath-1.5 that DeepSeek-R1 solved, here without its solutions. 93,733 rows, Apache-2.0.

Golds are NuminaMath-1.5's, unchecked: the first row's has lost its units, those of multiple choice are a letter or a value.
Raw row: {"problem": str, "answer": str, "question_type": str, "generations": [str], "messages": [...], ...}.
"""

from datasets import Dataset

from data import _golds, _rows

HUB = "open-r1/OpenR1-Math-220k"
CONFIG = "default"
REVISION = "e4e141ec9dea9f8326f4d347be56105859b2bd68"
COLUMNS = ("problem", "answer")
ONLY_BY_NAME = True
SPLITS = ("train",)
GIVES = _rows.PROBLEM
SOLUTIONS = ("generations", "messages", "solution")


def select(raw: Dataset) -> Dataset:
    """Without the solutions, which are most of the set."""
    return raw.remove_columns([c for c in SOLUTIONS if c in raw.column_names])


def to_row(raw: dict) -> dict:
    return _rows.problem(raw["problem"], _golds.stated(raw["answer"]))
