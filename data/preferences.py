r"""Pairs of a better and a worse answer, for reward models and DPO: made on the spot, or read from the hub or a file.

Raw row, in any of TRL's binarised forms: {"chosen": ..., "rejected": ...} with or without "prompt".
- conversations that share all but the last message (trl-lib/ultrafeedback_binarized), also where `prompt` repeats the
  question (HuggingFaceH4/ultrafeedback_binarized);
- a prompt beside bare answers, as text or as messages;
- text whose turns begin with "\n\nHuman:" and "\n\nAssistant:" (Anthropic/hh-rlhf), also where `prompt` holds them all up to
  the answer.
"""

import random
import re

from datasets import Dataset, Features

from data import _rows, arithmetic, arithmetic_text

SIDES = ("chosen", "rejected")
COLUMNS = [SIDES, (*SIDES, "target", "nums")]  # the second: pairs that keep countdown's gold, or they would fit both
SPLITS = ("train", "test", "train_prefs", "test_prefs")
GENERATED = ("train", "test")
KEPT = ("answer", "tests", "target", "nums", "first_error")
# share of the pairs whose rejected answer has this flaw
FLAWS = {"slip": 0.55, "answer": 0.20, "guess": 0.10, "untagged": 0.05, "unthinking": 0.05, "unclosed": 0.05}
TURN = re.compile(r"\n\n(Human|Assistant):")
ROLES = {"Human": "user", "Assistant": "assistant"}


def load(split: str, *, digits: int = 2, rows: int = 20_000, seed: int = 0) -> Dataset:
    """`rows` pairs about random additions of two `digits`-digit numbers, each problem several times; see `pair`.

    train and test share no sum. Raises ValueError for the splits that only hub sets have.
    """
    if split not in GENERATED:
        raise ValueError(
            f"split={split!r} isn't among those made here, {' and '.join(GENERATED)}: "
            "name one of them, or as dataset a hub set that has it, such as HuggingFaceH4/ultrafeedback_binarized"
        )
    rng = random.Random(seed)
    problems = arithmetic.pairs(split, digits, None, rng)
    flaws = rng.choices(list(FLAWS), weights=list(FLAWS.values()), k=rows)
    return Dataset.from_list([pair(*rng.choice(problems), flaw, rng) for flaw in flaws])


def pair(a: int, b: int, flaw: str, rng: random.Random) -> dict:
    """A worked addition, and an answer with one flaw.

    first_error: the offset in the rejected text, in characters, of the first that is wrong. A sum has one canonical
    solution, the chosen text: what departs from it is wrong from there on.
    """
    chosen = rejected = arithmetic_text.write(a, b, "tagged", rng)
    while rejected == chosen:  # a column that slips below zero reads 0, which may be what it was
        rejected = flawed(a, b, flaw, rng)
    return arithmetic.to_row({"a": a, "b": b}) | {
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
        "flaw": flaw,
        "first_error": next(i for i, (c, r) in enumerate(zip(chosen, rejected, strict=False)) if c != r),
    }


def flawed(a: int, b: int, flaw: str, rng: random.Random) -> str:
    if flaw != "answer":
        return arithmetic_text.write(a, b, flaw, rng)
    right, wrong = (arithmetic_text.write(a, b, style, rng) for style in ("tagged", "guess"))
    thoughts, end, _ = right.partition("</think>")
    return thoughts + end + wrong.partition("</think>")[2]


def to_row(raw: dict) -> dict:
    """Messages of the prompt, and one assistant message a side; KEPT columns stay.

    `chosen` and `rejected` are both None where they aren't two answers to one prompt: the prompts differ or don't end
    with the user, an answer isn't the assistant's, or there is no text. Recipes count such rows and leave them out; what
    prompt there is stays, else []. Two equal answers are a row like any other.
    """
    explicit = _asked(raw.get("prompt"))
    (prompt, chosen), (other, rejected) = (_answer(raw[side], explicit) for side in SIDES)
    if prompt != other:
        prompt, chosen = explicit, None
    has_question = bool(prompt) and prompt[-1]["role"] == "user" and all(m["content"].strip() for m in prompt)
    whole = has_question and chosen is not None and rejected is not None
    return {
        "prompt": prompt,
        "chosen": [{"role": "assistant", "content": chosen}] if whole else None,
        "rejected": [{"role": "assistant", "content": rejected}] if whole else None,
    } | {column: raw[column] for column in KEPT if column in raw}


def why(row: dict) -> str | None:
    """What a row lacks, that could not be read."""
    return None if row["chosen"] else "no two answers to one prompt" if row["prompt"] else "no prompt that both share"


def features(raw: Features) -> Features:
    """The types of what `to_row` gives: a thousand broken rows in front would leave them unknown."""
    kept = {column: raw[column] for column in KEPT if column in raw}
    return Features(dict.fromkeys(("prompt", *SIDES), _rows.MESSAGES) | kept)


def _answer(side: str | list[dict] | None, explicit: list[dict]) -> tuple[list[dict], str | None]:
    """One side's prompt and answer. A conversation has to lead up to its answer with the explicit prompt, if any."""
    if isinstance(side, str) and explicit:
        return explicit, side if side.strip() else None
    turns = _turns(side) if isinstance(side, str) else _rows.messages(side)
    if not turns:
        return explicit, None
    *before, last = turns
    before = before or explicit
    if explicit and before[-len(explicit) :] != explicit:
        return explicit, None
    return before, last["content"] if last["role"] == "assistant" and last["content"].strip() else None


def _asked(prompt: str | list[dict] | None) -> list[dict]:
    """A prompt's messages; text of hh-rlhf ends in the turn that is to be written."""
    turns = _turns(prompt) if isinstance(prompt, str) else []
    return turns[:-1] if turns and turns[-1] == {"role": "assistant", "content": ""} else _rows.messages(prompt)


def _turns(text: str) -> list[dict]:
    """The messages of a text of hh-rlhf; [] where it is anything else."""
    start, *parts = TURN.split(text)
    if start.strip():
        return []
    return [{"role": ROLES[who], "content": text.strip()} for who, text in zip(parts[::2], parts[1::2], strict=True)]
