"""s1K-1.1 (arXiv 2501.19393): 1,000 questions chosen to be hard, diverse and sound, with DeepSeek-R1's thoughts and answers. MIT. MIT.

R1's answers aren't all right. Raw row: {"question": str, "deepseek_thinking_trajectory": str, "deepseek_attempt": str, ...}; older
revisions have lists of one text, as s1K has: {"question": str, "thinking_trajectories": [str], "attempt": str}, read by `path`.
"""

from datasets import Features

from data import _rows, cold_start

HUB = "simplescaling/s1K-1.1"
COLUMNS = [
    ("question", "deepseek_thinking_trajectory", "deepseek_attempt"),
    ("question", "thinking_trajectories", "attempt"),
]
SPLITS = ("train",)
GIVES = Features(dict.fromkeys(("prompt", "completion"), _rows.MESSAGES))


def to_row(raw: dict) -> dict:
    _, thoughts, answer = next(shape for shape in COLUMNS if set(shape) <= raw.keys())
    trace = f"<think>\n{first(raw[thoughts])}\n</think>\n\n{first(raw[answer])}"
    return cold_start.to_row({"prompt": raw["question"], "completion": trace})


def first(cell: str | list | None) -> str:
    """A text, or the first of a list; "" where there is none."""
    return (cell[0] if isinstance(cell, list) and cell else cell) or ""


why = cold_start.why
