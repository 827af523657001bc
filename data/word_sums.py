"""Short sums told in words, made on the spot: what a small pretrained model can learn to reason about on a CPU.

"Mia has 12 stamps. She finds 25 more, loses 8 and buys 31. How many stamps does Mia have now?" Whether a verb adds or takes
away has to be known from language; nothing else does. Raw row: {"name", "thing", "start", "steps": [[verb, number], ...]}.
Train and test share no sum: the numbers and signs of a problem, whatever its words, fall into one split.
"""

import hashlib
import random

from datasets import Dataset

SPLITS = ("train", "test")
TEST_SHARE = 0.15
PRONOUNS = {
    "Mia": "She",
    "Ben": "He",
    "Lily": "She",
    "Tom": "He",
    "Anna": "She",
    "Sam": "He",
    "Emma": "She",
    "Jack": "He",
}
THINGS = ("apples", "stamps", "books", "coins", "shells", "cards", "pencils", "marbles", "stickers", "cookies")
GAINS = ("buys", "finds", "gets", "wins", "collects", "receives")
LOSSES = ("loses", "sells", "gives away", "drops", "donates", "throws away")


def load(
    split: str, *, steps: int = 3, largest: int = 50, rows: int = 2000, seed: int = 0, worked: bool = False
) -> Dataset:
    """`rows` distinct sums of one split, with `steps` gains and losses of at most `largest` each, never below zero.

    worked: each row also gets a `completion`, the sum worked step by step in the tags: demonstrations for a cold start.
    Raises ValueError for what can't be made.
    """
    if min(steps, rows) < 1 or largest < 2:
        raise ValueError(f"steps={steps} and rows={rows} must be at least 1, and largest={largest} at least 2")
    rng, found, seen, tries = random.Random(seed), [], set(), 0
    while len(found) < rows:
        if (tries := tries + 1) > 100 * rows + 1000:
            raise ValueError(
                f"rows={rows}: {split} has hardly more than {len(found)} sums of that size; raise largest or steps"
            )
        raw = problem(steps, largest, rng)
        key = numbers(raw)
        if split_of(key) == split and key not in seen:
            seen.add(key)
            found.append(to_row(raw) | ({"completion": work(raw)} if worked else {}))
    return Dataset.from_list(found)


def problem(steps: int, largest: int, rng: random.Random) -> dict:
    """A raw row with random words and numbers."""
    have = start = rng.randint(2, largest)
    events = []
    for _ in range(steps):
        verbs = LOSSES if have > 1 and rng.random() < 0.5 else GAINS
        n = rng.randint(1, min(largest, have - 1) if verbs is LOSSES else largest)
        have += n if verbs is GAINS else -n
        events.append([rng.choice(verbs), n])
    return {"name": rng.choice(list(PRONOUNS)), "thing": rng.choice(THINGS), "start": start, "steps": events}


def to_row(raw: dict) -> dict:
    name, thing = raw["name"], raw["thing"]
    events = [f"{verb} {n}" for verb, n in raw["steps"]]
    events = " and ".join([", ".join(events[:-1]), events[-1]] if events[1:] else events)
    question = f"{name} has {raw['start']} {thing}. {PRONOUNS[name]} {events}. How many {thing} does {name} have now?"
    return {"prompt": [{"role": "user", "content": question}], "answer": str(sum(numbers(raw)))}


def work(raw: dict) -> list[dict]:
    """The sum, step by step, and its result, in the tags."""
    have, *signed = numbers(raw)
    lines = []
    for n in signed:
        lines.append(f"{have}{n:+}={have + n}")
        have += n
    return [{"role": "assistant", "content": f"<think>{', '.join(lines)}</think><answer>{have}</answer>"}]


def numbers(raw: dict) -> tuple[int, ...]:
    """What there is at first, and each gain or loss, signed."""
    return raw["start"], *(n if verb in GAINS else -n for verb, n in raw["steps"])


def split_of(sum_: tuple[int, ...]) -> str:
    digest = hashlib.sha256(repr(sum_).encode()).digest()
    return "test" if int.from_bytes(digest[:4], "big") < TEST_SHARE * 2**32 else "train"
