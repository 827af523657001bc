"""LeetCodeDataset (arXiv 2504.14655): LeetCode's problems, each with a solution and about a hundred asserts. Apache-2.0.

2,641 to train on, and 228 published after 2024-07-01 to test with. Raw row: {"problem_description", "starter_code", "prompt",
"completion", "entry_point", "test", "query", ...}, where `prompt` isn't the question but imports and helpers, which the tests need
as well, and `test` a `check(candidate)` of asserts. Older rows have the first two in `meta`, and as tests only the statement's
examples. The set compares exactly, floats too, and takes one answer where a problem has several; it writes 10^9 as 109.
"""

from data import _programs, _rows

HUB = "newfacade/LeetCodeDataset"
REVISION = "215604aeed660029df7de2fea5a4d7b6ed476a08"
COMMON = ("prompt", "completion", "entry_point", "test")
COLUMNS = [("problem_description", "starter_code", *COMMON), (*COMMON, "meta")]
SPLITS = ("train", "test")
GIVES = _rows.PROGRAM


def to_row(raw: dict) -> dict:
    """The prompt shows the statement and the starter code, never `query` or `test`; `solution` is `completion`."""
    meta = raw.get("meta") or {}
    statement = raw.get("problem_description") or meta.get("question_title")
    starter = raw.get("starter_code") or meta.get("lang_code")
    tests = {
        "type": "assert",
        "prelude": raw["prompt"] + "\nfrom builtins import pow\n",  # math's, which it imports, takes no modulus
        "setup": raw["test"],
        "asserts": [f"check({raw['entry_point']})"],
        "time_limit": 5.0,
    }
    # without them, the candidate could bring a check of its own, or would pass by being called
    has_tests = raw["entry_point"] and "def check(" in raw["test"] and "assert " in raw["test"]
    question = _programs.question(statement, starter=starter, function=raw["entry_point"])
    return _rows.program(question, tests if has_tests else None, raw["completion"])
