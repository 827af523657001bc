"""The option `pass_rate: [least, most]`: the rows that a model solves now and then, by the share of its completions that were right.

GRPO learns nothing from a prompt whose completions all earn the same. The column is written by `recipes.sample --keep band`, or comes
with the set (big_math).
"""

import math
from collections import Counter
from statistics import fmean

from datasets import Dataset

WIDTH = 40
COLUMN = "pass_rate"


def check(band) -> None:
    """Raises ValueError where the option isn't two numbers of 0 to 1."""
    numbers = isinstance(band, list | tuple) and all(isinstance(n, int | float) for n in band)
    if not numbers or len(band) != 2 or not 0 <= band[0] <= band[1] <= 1:
        raise ValueError(f"pass_rate={band!r} must be two numbers, [least, most], of 0 to 1")


def within(name: str, rows: Dataset, least: float, most: float) -> tuple[Dataset, str]:
    """The rows in the band, both ends of it included, and how many they are, in words."""
    if COLUMN not in rows.column_names:
        raise ValueError(
            f"pass_rate: dataset {name!r} has no column {COLUMN!r}, only {', '.join(rows.column_names)}: recipes.sample --keep band "
            f"writes it; of a file of yours, say columns: {{{COLUMN}: <yours>}}"
        )
    rates = rows[COLUMN][:]
    kept = [i for i, rate in enumerate(rates) if rate is not None and least <= rate <= most]
    unknown = sum(rate is None for rate in rates)
    said = f"{len(kept):,} of {len(rows):,} with a pass rate of {least:g} to {most:g}"
    return rows.select(kept), said + (f" ({unknown:,} have none)" if unknown else "")


def useful_groups(rates: list[float], group: int) -> float:
    """The share of groups of so many completions that have an advantage: not all of them are right, nor all wrong.

    1 - p^G - (1 - p)^G, the mean over the prompts. A rate that few samples gave is itself uncertain: of 8, 0 may be 0.1.
    """
    return fmean(1 - rate**group - (1 - rate) ** group for rate in rates)


def histogram(rates: list[float]) -> list[str]:
    """How many prompts are never solved, always, and in between by tenths, as lines of text."""
    labels = ["0", *(f"{n / 10:.1f} to {(n + 1) / 10:.1f}" for n in range(10)), "1"]
    counts = Counter(0 if r == 0 else 11 if r == 1 else 1 + math.floor(r * 10) for r in rates)
    return [bar(f"{label:>12}", counts[n], max(counts.values())) for n, label in enumerate(labels)] if counts else []


def bar(label: str, count: int, most: int) -> str:
    return f"{label} {'█' * round(WIDTH * count / most) or '▏' * bool(count)} {count:,}".rstrip()
