"""AMC 12 of 2023, A and B: 40 problems to evaluate with, reworded so that the answers are whole numbers. Apache-2.0.

Raw row: {"id": int, "question": str, "answer": "27.0", "url": str}.
"""

from data import _golds, _rows

HUB = "math-ai/amc23"
REVISION = "80815d37005feb82cd7f8fbc6901d5d3eff43057"
COLUMNS = ("question", "answer")
ONLY_BY_NAME = True
SPLITS = ("test",)
GIVES = _rows.PROBLEM


def to_row(raw: dict) -> dict:
    return _rows.problem(raw["question"], _golds.whole(raw["answer"]))
