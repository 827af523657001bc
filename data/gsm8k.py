"""GSM8K (arXiv 2110.14168): grade-school word problems; the gold answer follows `####` in the worked solution.

Raw row: {"question": str, "answer": "<solution>\\n#### 72"}.
"""

from datasets import Dataset

from data import _rows

HUB = "openai/gsm8k"
CONFIG = "main"
COLUMNS = ("question", "answer")
SPLITS = ("train", "test")
GIVES = _rows.PROBLEM


def fits(raw: Dataset) -> bool:
    """Whether half of the answers are worked solutions, with their `####`; others are golds as they are."""
    answers = [answer for answer in raw["answer"] if answer is not None]
    return 2 * sum("####" in str(answer) for answer in answers) >= len(answers)


def to_row(raw: dict) -> dict:
    """`answer` is None where the solution has no `####`."""
    solution = raw["answer"] if isinstance(raw["answer"], str) else ""
    _, found, gold = solution.rpartition("####")
    return _rows.problem(raw["question"], gold.strip().replace(",", "") if found else None)
