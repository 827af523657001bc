"""DAPO-Math-17k (arXiv 2503.14476): competition problems whose golds are whole numbers. 17,398, of which 3,282 are Chinese.

HUB holds them once each, without a stated licence. In BytedTsinghua-SIA/DAPO-Math-17k (Apache-2.0), which `path` may be a copy of,
each stands about 100 times, inside of an instruction that is taken off here, and 7 with different golds.
Raw row: {"prompt": str, "solution": "34", ...}, or in the original {"prompt": [message], "reward_model": {"ground_truth": "34"}, ...}.
"""

import re

from datasets import Dataset

from data import _golds, _rows, _source

HUB = "open-r1/DAPO-Math-17k-Processed"
CONFIG = "all"
REVISION = "31dd309567e3da778038cc87d868b6097a3ccf68"
COLUMNS = [("prompt", "solution"), ("prompt", "reward_model")]
ONLY_BY_NAME = True
SPLITS = ("train",)
GIVES = _rows.PROBLEM
LANGUAGES = ("all", "en", "cn")
CHINESE = re.compile("[\u4e00-\u9fff]")
BEFORE = (
    "Solve the following math problem step by step. The last line of your response should be of the form Answer: $Answer "
    "(without quotes) where $Answer is the answer to the problem.\n\n"
)
BEHIND = '\n\nRemember to put your answer on its own line after "Answer:".'


def select(raw: Dataset, *, language: str = "all") -> Dataset:
    """Each problem once, of one language: "cn" is what has a Chinese character. Raises ValueError for another language."""
    if language not in LANGUAGES:
        raise ValueError(f"language={language!r} is not one of {', '.join(LANGUAGES)}")
    rows = _golds.once(raw, to_row, ("prompt", "solution", "reward_model"))
    if language == "all":
        return rows
    chinese = [CHINESE.search(question_of(prompt) or "") is not None for prompt in rows["prompt"]]
    return rows.select([i for i, found in enumerate(chinese) if found == (language == "cn")])


def to_row(raw: dict) -> dict:
    gold = raw["solution"] if "solution" in raw else (raw["reward_model"] or {}).get("ground_truth")
    differing = raw.get(_source.UNREADABLE) is not None
    return _rows.problem(question_of(raw["prompt"]), None if differing else _golds.bare(gold))


def question_of(prompt: str | list[dict] | None) -> str | None:
    """The problem, without the instruction around it where both of its ends are there."""
    text = next((message["content"] for message in _rows.messages(prompt)), None)
    if text and text.startswith(BEFORE) and text.endswith(BEHIND):
        return text[len(BEFORE) : -len(BEHIND)]
    return text
