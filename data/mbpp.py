"""MBPP (arXiv 2108.07732): short Python problems, each with three asserts.

Raw row: {"task_id": int, "text": str, "code": str, "test_list": [str], "test_setup_code": str, ...}.
"""

from data import _rows

HUB = "google-research-datasets/mbpp"
CONFIG = "full"
COLUMNS = ("text", "test_list", "test_setup_code")
SPLITS = ("train", "validation", "test", "prompt")
GIVES = _rows.PROGRAM
QUESTION = "{text}\nGive the whole program in one ```python block. It has to pass this test, and others:\n{test}"


def to_row(raw: dict) -> dict:
    """The prompt shows the first assert, which names the function; all of them are the tests, which `solution` passes."""
    asserts = [a for a in raw["test_list"] or [] if a.strip()]
    question = raw["text"] and QUESTION.format(text=raw["text"], test=asserts[0] if asserts else "")
    tests = {"type": "assert", "setup": raw["test_setup_code"] or "", "asserts": asserts, "time_limit": 5.0}
    return _rows.program(question, tests if asserts else None, raw.get("code"))
