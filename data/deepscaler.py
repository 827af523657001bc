"""DeepScaleR-Preview: problems of AIME, AMC, Omni-MATH and STILL, 40,315 rows of 39,387 problems, MIT.

A problem that stands there several times is given once, and without an answer where its golds differ (171 problems).
Raw row: {"problem": str, "answer": str, "solution": str}, where some answers are empty.
"""

from datasets import Dataset

from data import _golds, _rows, _source

HUB = "agentica-org/DeepScaleR-Preview-Dataset"
REVISION = "b6ae8c60f5c1f2b594e2140b91c49c9ad0949e29"
COLUMNS = ("problem", "answer")
ONLY_BY_NAME = True
SPLITS = ("train",)
GIVES = _rows.PROBLEM


def select(raw: Dataset) -> Dataset:
    return _golds.once(raw, to_row, COLUMNS)


def to_row(raw: dict) -> dict:
    differing = raw.get(_source.UNREADABLE) is not None
    return _rows.problem(raw["problem"], None if differing else _golds.bare(raw["answer"]))
