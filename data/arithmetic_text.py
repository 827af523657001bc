"""Worked additions of mixed quality: what the embedded base model is trained on, from scratch.

A pretrained base model has read right and wrong answers, with and without any format. So has this one: only some of
its text thinks in <think>, answers in <answer> and is right. GRPO then has something to select from. All problems come
from the train split of data/arithmetic.py.
"""

import random

from datasets import Dataset

from data import arithmetic

SPLITS = ("train",)

# share of the rows written in each style
STYLES = {"tagged": 0.35, "slip": 0.10, "guess": 0.12, "untagged": 0.17, "unthinking": 0.15, "unclosed": 0.11}


def load(split: str, *, digits: int = 2, rows: int = 50_000, seed: int = 0) -> Dataset:
    """`rows` texts about random train problems, each problem several times and in several styles."""
    rng = random.Random(seed)
    problems = arithmetic.pairs(split, digits, None, rng)
    styles = rng.choices(list(STYLES), weights=list(STYLES.values()), k=rows)
    return Dataset.from_list(
        [to_row({"problem": rng.choice(problems), "style": s, "seed": rng.random()}) for s in styles]
    )


def to_row(raw: dict) -> dict:
    (a, b), style = raw["problem"], raw["style"]
    question = arithmetic.to_row({"a": a, "b": b})["prompt"]
    return {
        "prompt": question,
        "completion": [{"role": "assistant", "content": write(a, b, style, random.Random(raw["seed"]))}],
    }


def write(a: int, b: int, style: str, rng: random.Random) -> str:
    """One text in one style."""
    slips = style == "slip"
    work, total = worked(a, b, rng if slips else None)
    if style in ("tagged", "slip"):
        return f"<think>{work}</think><answer>{total}</answer>"
    if style == "guess":
        return f"<think>{a}+{b}</think><answer>{total + rng.choice((-20, -10, -2, -1, 1, 2, 10, 20))}</answer>"
    if style == "untagged":
        return f"{work} so it is {total}"
    if style == "unthinking":
        return f"<answer>{total}</answer>"
    return f"<think>{work} so {total}"


def worked(a: int, b: int, rng: random.Random | None = None) -> tuple[str, int]:
    """Column addition from the right, and its result; with `rng`, one column goes wrong."""
    left, right = str(a)[::-1], str(b)[::-1]
    bad = rng.randrange(len(left)) if rng else None
    carry, digits, lines = 0, "", []
    for i, (x, y) in enumerate(zip(left, right, strict=True)):
        column = int(x) + int(y) + carry + (rng.choice((-2, -1, 1, 2)) if i == bad else 0)
        column = max(column, 0)
        lines.append(f"{x}+{y}{f'+{carry}' if carry else ''}={column}")
        carry, digits = column // 10, str(column % 10) + digits
    return ", ".join(lines), int((str(carry) if carry else "") + digits)
