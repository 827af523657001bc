"""AIME 2024, I and II: 30 problems to evaluate with, whose answers are whole numbers of 0 to 999. No licence stated.

Raw row: {"id": 65, "problem": str, "solution": str, "answer": "025", "url": str, "year": "2024"}.
"""

from data import _golds, _rows

HUB = "HuggingFaceH4/aime_2024"
REVISION = "2fe88a2f1091d5048c0f36abc874fb997b3dd99a"
COLUMNS = ("problem", "answer")
ONLY_BY_NAME = True
SPLITS = ("test",)
HUB_SPLITS = {"test": "train"}
GIVES = _rows.PROBLEM


def to_row(raw: dict) -> dict:
    return _rows.problem(raw["problem"], _golds.whole(raw["answer"]))
