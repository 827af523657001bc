"""OlympiadBench (arXiv 2402.14008): its 674 English competition problems of mathematics, text only, to evaluate with. Apache-2.0.

Several answers of a problem stand in one gold, joined by commas. Raw row: {"question": str, "context": str or None,
"final_answer": ["$(1,8,19), (2,7,13)$"], "solution": [str], "unit": str or None, ...}.
"""

from data import _golds, _rows

HUB = "Hothan/OlympiadBench"
CONFIG = "OE_TO_maths_en_COMP"
REVISION = "91184b52131e7fc9455fef848035173aea8cc01a"
COLUMNS = ("question", "final_answer", "context")
ONLY_BY_NAME = True  # the other configs have images, which a prompt doesn't show
SPLITS = ("test",)
HUB_SPLITS = {"test": "train"}
GIVES = _rows.PROBLEM


def to_row(raw: dict) -> dict:
    """The prompt is the question, with its context in front where there is one."""
    question = raw["question"]
    if question and raw["context"]:
        question = f"{raw['context']}\n\n{question}"
    return _rows.problem(question, _golds.bare(raw["final_answer"]))
