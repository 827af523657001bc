"""Minerva's undergraduate problems (arXiv 2206.14858), of physics and other sciences: 272 to evaluate with. Licence unknown.

Golds are formulas and numbers, 1.6 or 4.5e33, many of them rounded. math_answer takes them as exact, so that scores are lower than
those of a grader with a tolerance.
Raw row: {"question": str, "answer": "1.6"}.
"""

from data import _golds, _rows

HUB = "math-ai/minervamath"
REVISION = "ee46ddc498933b1977577953250ca5c66be64f96"
COLUMNS = ("question", "answer")
ONLY_BY_NAME = True
SPLITS = ("test",)
GIVES = _rows.PROBLEM


def to_row(raw: dict) -> dict:
    return _rows.problem(raw["question"], _golds.bare(raw["answer"]))
