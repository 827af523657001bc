"""HumanEval (arXiv 2107.03374): 164 Python functions to complete, to evaluate with. Not for training: it is a test set.

Raw row: {"task_id": str, "prompt": str, "canonical_solution": str, "test": str, "entry_point": str}.
"""

import ast

from data import _rows

HUB = "openai/openai_humaneval"
COLUMNS = ("prompt", "canonical_solution", "test", "entry_point")
SPLITS = ("test",)
GIVES = _rows.PROGRAM
QUESTION = "Complete this Python function. Give the whole program in one ```python block.\n\n```python\n{prompt}\n```"


def to_row(raw: dict) -> dict:
    """`tests` calls the row's own `check` on the function that the prompt names; some checks call the prompt's helpers."""
    given = [node for node in ast.parse(raw["prompt"]).body if getattr(node, "name", None) != raw["entry_point"]]
    tests = {
        "type": "assert",
        "prelude": "\n".join(map(ast.unparse, given)),
        "setup": raw["test"],
        "asserts": [f"check({raw['entry_point']})"],
        "time_limit": 5.0,
    }
    question = QUESTION.format(prompt=raw["prompt"].rstrip())
    return _rows.program(question, tests, raw["prompt"] + raw["canonical_solution"])
