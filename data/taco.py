"""TACO (arXiv 2312.14852): 25,443 problems of programming sites to train on and 1,000 to test with. Apache-2.0.

Raw row as in APPS, with `source`, `skill_types` and more; in likaixin/TACO-verified, 12,898 rows whose solutions pass,
`solutions` is a list. Compared as in APPS. About a quarter of the problems to test with have several right answers, of which
only the one given counts.
"""

from datasets import Dataset

from data import _programs, _rows, apps

HUB = "BAAI/TACO"
FILES = {
    "train": [f"ALL/train-0000{n}-of-00009.parquet" for n in range(9)],
    "test": ["ALL/test-00000-of-00001.parquet"],
}
COLUMNS = (*apps.COLUMNS, "source", "skill_types")
SPLITS = ("train", "test")
GIVES = _rows.PROGRAM
DIFFICULTIES = ("EASY", "MEDIUM", "MEDIUM_HARD", "HARD", "VERY_HARD")
to_row = apps.to_row


def select(raw: Dataset, *, difficulty: list[str] | None = None) -> Dataset:
    return _programs.of_difficulty(raw, difficulty, DIFFICULTIES)
