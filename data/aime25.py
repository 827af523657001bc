r"""AIME 2025, I and II: 30 problems to evaluate with, whose answers are whole numbers of 0 to 999. Apache-2.0.

Raw row: {"problem": str, "answer": "70", "id": "0"}; other copies of the set have a "336^\circ".
"""

from data import _golds, _rows

HUB = "math-ai/aime25"
REVISION = "563bb8404243c5f09de6ec262f2db674fe5bce9b"
COLUMNS = ("problem", "answer")
ONLY_BY_NAME = True
SPLITS = ("test",)
GIVES = _rows.PROBLEM


def to_row(raw: dict) -> dict:
    return _rows.problem(raw["problem"], _golds.whole(raw["answer"]))
