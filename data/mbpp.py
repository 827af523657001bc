"""MBPP (arXiv 2108.07732): short Python problems, each with three asserts.

Raw row: {"task_id": int, "text": str, "code": str, "test_list": [str], "test_setup_code": str, ...}.
"""

from datasets import Dataset

from data import _source

HUB = "google-research-datasets/mbpp"
COLUMNS = ("text", "test_list", "test_setup_code")
SPLITS = ("train", "validation", "test", "prompt")
QUESTION = "{text}\nGive the whole program in one ```python block. It has to pass this test, and others:\n{test}"


def load(split: str) -> Dataset:
    """MBPP from the hub: 374 problems to train on, 90 to validate, 500 to test."""
    return _source.to_rows(_source.read(HUB, split, config="full"), to_row)


def to_row(raw: dict) -> dict:
    """The prompt shows the first assert, which names the function; all of them are the tests, which `solution` passes."""
    asserts = [a for a in raw["test_list"] or [] if a.strip()]
    question = QUESTION.format(text=raw["text"] or "", test=asserts[0] if asserts else "")
    return {
        "prompt": [{"role": "user", "content": question}],
        "tests": {
            "type": "assert",
            "setup": raw["test_setup_code"] or "",
            "asserts": asserts,
            "time_limit": 5.0,
        },
        "solution": raw.get("code"),
    }
