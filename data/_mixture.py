"""Mixtures: `dataset: [{name: gsm8k, weight: 0.7}, {name: math, weight: 0.3, options: {levels: [4, 5]}}]`.

A weight is a set's share of the rows, relative to the others'; without weights every row is there once. A mixture has as many
rows as its sets together. A set that has fewer rows than its share is repeated, in a new order each time; of a set that has more, some
are drawn. All of it follows from `seed`, so that it is the same in every process and for a run that resumes. The column `dataset` says
where a row is from, by the set's name or its `label`; columns that a set doesn't have are None in its rows.
"""

import json
import random
from collections.abc import Callable, Iterable

from datasets import Dataset, Features, Value, concatenate_datasets

KEYS = ("name", "weight", "split", "columns", "options", "label")
COLUMN = "dataset"


def check(parts: list, columns: dict | None, options: dict, common: Iterable[str]) -> None:
    """Raises ValueError for a list that isn't a mixture's. common: the options that are for each of its sets."""
    if columns:
        raise ValueError("columns: a mixture's sets have their own: say them in the list, {name: ..., columns: {...}}")
    if unknown := [key for key in options if key not in ("seed", *common)]:
        raise ValueError(
            f"dataset_options: a mixture takes {', '.join(('seed', *common))}, and no {unknown[0]!r}: say options in the list, {{name: ..., options: {{...}}}}"
        )
    if not parts:
        raise ValueError("dataset: the list of a mixture is empty")
    for part in parts:
        if not isinstance(part, dict) or not isinstance(part.get("name"), str):
            raise ValueError(f"dataset: {part!r} of the mixture must have a name, as in {{name: gsm8k, weight: 0.5}}")
        if unknown := [key for key in part if key not in KEYS]:
            raise ValueError(
                f"dataset: {part['name']!r} of the mixture has no key {unknown[0]!r}: there are {', '.join(KEYS)}"
            )
        weight = part.get("weight", 1)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < float("inf"):
            raise ValueError(f"dataset: weight={weight!r} of {part['name']!r} must be above 0")
    if len({"weight" in part for part in parts}) > 1:
        raise ValueError("dataset: all sets of a mixture have a weight, or none has")
    labels = [label(part) for part in parts]
    if twice := [name for name in labels if labels.count(name) > 1]:
        raise ValueError(
            f"dataset: {twice[0]!r} is twice in the mixture: give one of them a label, {{name: ..., label: ...}}"
        )


def label(part: dict) -> str:
    """What the column `dataset` says of a part's rows."""
    return part.get("label") or part["name"] + (f":{part['split']}" if part.get("split") else "")


def mix(parts: list[dict], split: str, read: Callable, *, seed: int = 0, **common) -> tuple[Dataset, str]:
    """The rows of a mixture in a random order, and how they were read and mixed, in words.

    read: of one set, as in data/; common: options of each of them that doesn't have its own.
    """
    read_ = [
        read(p["name"], p.get("split") or split, p.get("columns"), **{**common, **(p.get("options") or {})})
        for p in parts
    ]
    sets, hows = [rows for rows, _ in read_], [how for _, how in read_]
    total = sum(map(len, sets))
    weights = [part.get("weight", len(rows)) for part, rows in zip(parts, sets, strict=True)]
    counts = _counts(total, weights)
    rng, picked, start = random.Random(seed), [], 0
    for rows, count in zip(sets, counts, strict=True):
        picked += [start + i for i in _rounds(len(rows), count, rng)]
        start += len(rows)
    rng.shuffle(picked)
    named = [
        rows.add_column(COLUMN, [label(part)] * len(rows))
        for part, rows in zip(parts, _alike(sets, parts), strict=True)
    ]
    said = [
        f"{label(part)}: {count / total:.1%}, {count:,} draws of {len(rows):,} rows ({how})"
        for part, rows, count, how in zip(parts, sets, counts, hows, strict=True)
    ]
    return concatenate_datasets(named).select(picked), f"a mixture of {'; '.join(said)}"


def _counts(total: int, weights: list[float]) -> list[int]:
    """`total` in shares of these weights, by the largest remainders."""
    exact = [total * weight / sum(weights) for weight in weights]
    counts = [int(share) for share in exact]
    for i in sorted(range(len(exact)), key=lambda i: counts[i] - exact[i])[: total - sum(counts)]:
        counts[i] += 1
    return counts


def _rounds(rows: int, count: int, rng: random.Random) -> list[int]:
    """`count` of a set's rows, each as often as any other, or once more."""
    found = []
    while len(found) < count:
        found += rng.sample(range(rows), min(rows, count - len(found)))
    return found


def _alike(sets: list[Dataset], parts: list[dict]) -> list[Dataset]:
    """The sets with the same types in columns of the same names: `tests` as JSON, where some are. Raises ValueError where they differ."""
    if owners := [label(part) for part, rows in zip(parts, sets, strict=True) if COLUMN in rows.column_names]:
        raise ValueError(
            f"dataset: {owners[0]!r} has a column {COLUMN!r}, which says in a mixture where a row is from: rename it, as in "
            f"columns: {{my_{COLUMN}: {COLUMN}}}"
        )
    types = {}
    for rows in sets:
        for column, kind in rows.features.items():
            types.setdefault(column, []).append(kind)
    for column, kinds in types.items():
        if all(kind == kinds[0] for kind in kinds):
            continue
        if column != "tests":
            differing = [label(p) for p, rows in zip(parts, sets, strict=True) if column in rows.column_names]
            raise ValueError(
                f"dataset: the column {column!r} has different types in {', '.join(differing)}: rename it in one of them, as in "
                f"columns: {{my_{column}: {column}}}"
            )
        sets = [_as_json(rows, column) if column in rows.column_names else rows for rows in sets]
    return sets


def _as_json(rows: Dataset, column: str) -> Dataset:
    values = [v if v is None or isinstance(v, str) else json.dumps(v) for v in rows[column]]
    types = Features(rows.features | {column: Value("large_string")})
    return rows.remove_columns(column).add_column(column, values).cast(types)
