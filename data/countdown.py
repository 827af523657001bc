"""Countdown: reach a target with each of the given numbers exactly once. Made on the spot, or read from the hub's set.

Raw row, as in Jiayi-Pan/Countdown-Tasks-3to4 (TinyZero): {"target": int, "nums": [int, ...]}. Grade with the `countdown`
reward: a problem has many right answers, so there is no gold one to compare with.
"""

import hashlib
import random
from fractions import Fraction

from datasets import Dataset

from data import _source

HUB = "Jiayi-Pan/Countdown-Tasks-3to4"
COLUMNS = ("target", "nums")
SPLITS = ("train", "test")
TEST_SHARE = 0.15
TRIES = 20_000  # in a row without a new problem: there are no more, or next to none


def load(split: str, *, source: str = "generated", numbers: int = 3, rows: int = 2000, seed: int = 0) -> Dataset:
    """Solvable problems with `numbers` numbers of 1 to 99 and a target of 1 to 100.

    source: "generated", offline; or "hub", the whole of HUB, of which `split` takes its share (the set has one split).
    Raises ValueError for any other source, for fewer than two numbers, and where there aren't as many problems.
    """
    if source not in ("generated", "hub"):
        raise ValueError(f"source={source!r} is not one of 'generated', 'hub'")
    if source == "hub":
        raw = _source.read(HUB, "train")
        return _source.to_rows(raw.filter(lambda r: split_of(r["nums"], r["target"]) == split), to_row)
    if numbers < 2 or rows < 1:
        raise ValueError(f"numbers={numbers} must be at least 2 and rows={rows} at least 1")
    rng, problems, in_vain = random.Random(seed), {}, 0
    while len(problems) < rows:
        if in_vain == TRIES:
            raise ValueError(
                f"rows={rows}: no more than {len(problems)} problems of split {split!r} with numbers={numbers} were found, and then "
                f"none in {TRIES:,} tries: lower rows, or take another numbers"
            )
        nums = [rng.randint(1, 99) for _ in range(numbers)]
        target = solve(nums, rng)
        before = len(problems)
        if target is not None and split_of(nums, target) == split:
            problems[(tuple(sorted(nums)), target)] = {"target": target, "nums": nums}
        in_vain = in_vain + 1 if len(problems) == before else 0
    return Dataset.from_list([to_row(raw) for raw in problems.values()])


def to_row(raw: dict) -> dict:
    """`target` and `nums` stay columns: they are what the reward checks."""
    numbers = ", ".join(map(str, raw["nums"] or []))
    question = f"Using each of the numbers {numbers} exactly once, with + - * / and parentheses, make {raw['target']}."
    return {"prompt": [{"role": "user", "content": question}], "target": raw["target"], "nums": raw["nums"]}


def split_of(nums: list[int], target: int) -> str:
    """The split a problem belongs to, in whichever order its numbers come."""
    digest = hashlib.sha256(f"{sorted(nums)}={target}".encode()).digest()
    return "test" if int.from_bytes(digest[:4], "big") < TEST_SHARE * 2**32 else "train"


def solve(nums: list[int], rng: random.Random) -> int | None:
    """A target that random operations on all of the numbers reach, or None when they reach no whole one of 1 to 100."""
    values = [Fraction(n) for n in nums]
    while len(values) > 1:
        rng.shuffle(values)
        x, y = values.pop(), values.pop()
        results = [x + y, x - y, x * y] + ([x / y] if y else [])
        values.append(rng.choice(results))
    value = values[0]
    return int(value) if value.denominator == 1 and 1 <= value <= 100 else None
