r"""MATH-500 (arXiv 2305.20050): 500 problems of MATH's test set (arXiv 2103.03874), to evaluate with. No licence stated; MATH is MIT.

Raw row: {"problem": str, "solution": str, "answer": "\left( 3, \frac{\pi}{2} \right)", "subject": str, "level": 1 to 5,
"unique_id": str}.
"""

from data import _golds, _rows

HUB = "HuggingFaceH4/MATH-500"
REVISION = "6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be"
COLUMNS = ("problem", "answer")
ONLY_BY_NAME = True
SPLITS = ("test",)
GIVES = _rows.PROBLEM


def to_row(raw: dict) -> dict:
    return _rows.problem(raw["problem"], _golds.bare(raw["answer"]))
