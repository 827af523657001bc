r"""Big-Math (arXiv 2502.17387): problems with answers, and `pass_rate`, the share of a Llama 8B's answers that were right. Apache-2.0.

HUB holds 215,608 and is open; the original, SynthLabsAI/Big-Math-RL-Verified, has 251,122 behind an agreement, and is read by its
name or by `path`. Some rows have no pass rate.
Raw row: {"prompt": str, "solution": "10\%", "llama8b_solve_rate": 0.890625, ...}, or "problem" and "answer" in the original.
"""

from datasets import Features, Value

from data import _golds, _rows

HUB = "open-r1/Big-Math-RL-Verified-Processed"
CONFIG = "all"
REVISION = "c79efbb6d3b75e3a2bcc27a5c569119918132345"
COLUMNS = [("prompt", "solution", "llama8b_solve_rate"), ("problem", "answer", "llama8b_solve_rate")]
SPLITS = ("train",)
GIVES = Features(_rows.PROBLEM | {"pass_rate": Value("float64")})


def to_row(raw: dict) -> dict:
    question, gold = ("prompt", "solution") if "prompt" in raw else ("problem", "answer")
    return _rows.problem(raw[question], _golds.bare(raw[gold])) | {"pass_rate": raw["llama8b_solve_rate"]}
