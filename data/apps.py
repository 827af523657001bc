"""APPS (arXiv 2105.09938): 10,000 problems of programming sites, half of them to test with, on stdin or as a function. MIT.

Raw row, all text: {"question", "solutions": JSON list, "input_output": JSON {"inputs", "outputs", "fn_name"?}, "starter_code",
"difficulty", "url", ...}. About 550 rows to train on have no tests, and in others the only tests are the statement's examples.
What a program prints is compared as numbers up to 1e-5, as the set's checker does, values of functions exactly; its other
leniencies, such as lines as sets, are not taken over. Where a problem has several answers, only the one given counts.
"""

from datasets import Dataset

from data import _programs, _rows

HUB = "codeparrot/apps"
REVISION = "21e74ddf8de1a21436da12e3e653065c5213e9d1"
FILES = {"train": ["train.jsonl"], "test": ["test.jsonl"]}
COLUMNS = ("question", "solutions", "input_output", "starter_code")
SPLITS = ("train", "test")
GIVES = _rows.PROGRAM
DIFFICULTIES = ("introductory", "interview", "competition")
TIME_LIMIT_S = 4.0


def select(raw: Dataset, *, difficulty: list[str] | None = None) -> Dataset:
    return _programs.of_difficulty(raw, difficulty, DIFFICULTIES)


def to_row(raw: dict) -> dict:
    """`solution` is the first of the set's that is Python 3; not all of them pass."""
    tests, function = _programs.inputs_and_outputs(raw, TIME_LIMIT_S)
    question = _programs.question(raw["question"], starter=raw["starter_code"], function=function)
    return _rows.program(question, tests, _programs.solution(raw["solutions"]))
