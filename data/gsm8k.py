"""GSM8K (arXiv 2110.14168): grade-school word problems; the gold answer follows `####` in the worked solution.

Raw row: {"question": str, "answer": "<solution>\\n#### 72"}.
"""

from datasets import Dataset

from data import _source

HUB = "openai/gsm8k"
COLUMNS = ("question", "answer")
SPLITS = ("train", "test")


def load(split: str) -> Dataset:
    """GSM8K from the hub: 7,473 rows to train on, 1,319 to test."""
    return _source.to_rows(_source.read(HUB, split, config="main"), to_row)


def fits(raw: Dataset) -> bool:
    """Whether half of the answers are worked solutions, with their `####`; others are golds as they are."""
    answers = [answer for answer in raw["answer"] if answer is not None]
    return 2 * sum("####" in str(answer) for answer in answers) >= len(answers)


def to_row(raw: dict) -> dict:
    """`answer` is None where the solution has no `####`, or there is no question: such a row can't be graded."""
    _, found, gold = str(raw["answer"] or "").rpartition("####")
    return {
        "prompt": [{"role": "user", "content": raw["question"] or ""}],
        "answer": (gold.strip().replace(",", "") or None) if found and raw["question"] else None,
    }
