r"""Demonstrations for R1's cold start (arXiv 2501.12948, section 2.3.1): the format, and thoughts worth imitating.

Made on the spot, or read from the hub or a file. Raw row, in one of two shapes:
- {"messages": [user, assistant]}, a trace of R1: "<think>\n...\n</think>\n\nthe answer" (open-r1/OpenR1-Math-220k,
  open-r1/Mixture-of-Thoughts);
- {"prompt": ..., "completion": ...}, text or messages, such as the right samples of a model of one's own.
"""

import random

from datasets import Dataset, Features

from data import _rows, arithmetic, arithmetic_text

SAMPLED = ("prompt", "completion")
COLUMNS = [("messages",), SAMPLED, (*SAMPLED, "target", "nums")]  # the last: samples that keep countdown's gold
SPLITS = ("train", "test")
KEPT = ("answer", "tests", "target", "nums")
TAGS = ("<think>", "</think>", "<answer>", "</answer>")


def load(split: str, *, digits: int = 2, rows: int = 1000, seed: int = 0) -> Dataset:
    """Distinct additions of two `digits`-digit numbers, each worked once and without a flaw.

    Raises ValueError when there are fewer than `rows` distinct problems of that size.
    """
    rng = random.Random(seed)
    return Dataset.from_list(
        [
            arithmetic.to_row({"a": a, "b": b})
            | {"completion": [{"role": "assistant", "content": arithmetic_text.write(a, b, "tagged", rng)}]}
            for a, b in arithmetic.pairs(split, digits, rows, rng)
        ]
    )


def to_row(raw: dict) -> dict:
    """The turns up to the user's last, a system message of its own among them, and the assistant's tagged answer; KEPT
    columns stay.

    `completion` is None where there is no question with one answer that `tagged` can read. Recipes count such rows
    and leave them out.
    """
    if "completion" in raw:
        completion = raw["completion"]
        answer = (
            [{"role": "assistant", "content": completion}]
            if isinstance(completion, str)
            else _rows.messages(completion)
        )
        turns = _rows.messages(raw["prompt"]) + answer
    else:
        turns = _rows.messages(raw["messages"])
        answer = turns[-1:]
    prompt = turns[: len(turns) - len(answer)]
    roles = [m["role"] for m in prompt[-1:] + answer]
    has_question = roles == ["user", "assistant"] and prompt[-1]["content"].strip()
    text = tagged(answer[0]["content"]) if has_question else None
    return {
        "prompt": prompt,
        "completion": [{"role": "assistant", "content": text}] if text else None,
    } | {column: raw[column] for column in KEPT if column in raw}


def fits(raw: Dataset) -> bool:
    """Whether half of the rows have thoughts; others are demonstrations as they are."""
    column = "completion" if "completion" in raw.column_names else "messages"
    texts = [m if isinstance(m, str) else "".join(t["content"] for t in _rows.messages(m)) for m in raw[column]]
    return not any(texts) or sum("<think>" in text for text in texts) >= sum(map(bool, texts)) / 2


def why(row: dict) -> str | None:
    """What a row lacks, that could not be read."""
    has_question = row["prompt"] and row["prompt"][-1]["role"] == "user" and row["prompt"][-1]["content"].strip()
    return (
        None
        if row["completion"]
        else "no thoughts in one <think> block before an answer"
        if has_question
        else "no prompt"
    )


def features(raw: Features) -> Features:
    """The types of what `to_row` gives: a thousand broken rows in front would leave them unknown."""
    kept = {column: raw[column] for column in KEPT if column in raw}
    return Features(dict.fromkeys(("prompt", "completion"), _rows.MESSAGES) | kept)


def tagged(trace: str) -> str | None:
    """A trace as `<think>...</think><answer>...</answer>`: what follows the thoughts is the answer, tagged or not yet.

    None where that isn't one block of thoughts and one answer, both with text: open or doubled blocks, text around them.
    """
    before, _, rest = trace.partition("<think>")
    thoughts, _, after = rest.partition("</think>")
    body = after.strip()
    if not body.startswith("<answer>"):
        trace = f"<think>{thoughts}</think><answer>{body}</answer>"
    ends = trace.strip().endswith("</answer>")
    answer = trace.partition("<answer>")[2].partition("</answer>")[0]
    once = all(trace.count(tag) == 1 for tag in TAGS)
    return trace if once and ends and not before.strip() and thoughts.strip() and answer.strip() else None
