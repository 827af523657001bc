"""Two-number additions, made on the spot: no download, and a held-out split that shares no sum with training.

Raw row: {"a": int, "b": int}. `a + b` and `b + a` always fall into the same split.
"""

import hashlib
import random

from datasets import Dataset

SPLITS = ("train", "test")
TEST_SHARE = 0.15


def load(split: str, *, digits: int = 2, rows: int | None = None, seed: int = 0) -> Dataset:
    """Distinct additions of two `digits`-digit numbers, in an order fixed by `seed`.

    rows: how many; None takes all there are, at most 10,000.
    Raises ValueError when there are fewer than `rows` distinct problems of that size.
    """
    problems = pairs(split, digits, rows, random.Random(seed))
    return Dataset.from_list([to_row({"a": a, "b": b}) for a, b in problems])


def to_row(raw: dict) -> dict:
    question = f"What is {raw['a']} + {raw['b']}?"
    return {"prompt": [{"role": "user", "content": question}], "answer": str(raw["a"] + raw["b"])}


def split_of(a: int, b: int) -> str:
    """The split an addition belongs to, whichever way round it is written."""
    digest = hashlib.sha256(f"{min(a, b)}+{max(a, b)}".encode()).digest()
    return "test" if int.from_bytes(digest[:4], "big") < TEST_SHARE * 2**32 else "train"


def pairs(split: str, digits: int, rows: int | None, rng: random.Random) -> list[tuple[int, int]]:
    """`rows` distinct pairs of `digits`-digit numbers of one split."""
    if digits < 1 or (rows is not None and rows < 1):
        raise ValueError(f"digits={digits} and rows={rows} must be at least 1")
    low, high = 10 ** (digits - 1), 10**digits
    count = (high - low) ** 2
    wanted = rows or 10_000
    # 15% of the pairs are held out: 10 draws for each row wanted are enough for either split
    drawn = [divmod(n, high - low) for n in rng.sample(range(count), min(count, 10 * wanted + 1000))]
    found = [(low + i, low + j) for i, j in drawn if split_of(low + i, low + j) == split][:wanted]
    if rows and len(found) < rows:
        raise ValueError(f"rows={rows}: {split} has only {len(found)} distinct additions of {digits}-digit numbers")
    return found
