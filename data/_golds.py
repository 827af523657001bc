r"""Golds of maths sets as rewards.math_answer takes them: without $ and \boxed, whole numbers as such, one of each problem."""

import re
from collections.abc import Callable, Iterator, Sequence

from datasets import Dataset, Value

from data import _rows, _source

DOLLARS = re.compile(r"\$((?:[^$\\]|\\.)*)\$", re.S)
BRACE = re.compile(r"\\boxed\s*\{|\\.|[{}]", re.S)
WHOLE = re.compile(r"0*([0-9]+)(?:\.0+)?(?:\^\\circ|\^\{\\circ\})?")
NOT_STATED = ("proof", "notfound")  # NuminaMath-1.5's words for it, and of the sets that are made from that
DIFFERING = "no answer that its copies agree on"


def bare(answer) -> str | None:
    r"""An answer as text, without one $...$ and one \boxed{...} around all of it; None where there is none."""
    text = _rows.as_text(answer) or ""
    if found := DOLLARS.fullmatch(text):
        text = found[1].strip()
    inside = boxed(text)
    if text == f"\\boxed{{{inside}}}":  # unlike "\boxed{1}, \boxed{2}"
        text = inside
    return text.strip() or None


def stated(answer) -> str | None:
    """The same, and None for the set's words for a missing answer."""
    text = bare(answer)
    return None if text in NOT_STATED else text


def whole(answer) -> str | None:
    r"""The same of a contest whose answers are whole numbers: "025", "25.0" and "25^\circ" are "25"."""
    text = bare(answer)
    found = WHOLE.fullmatch(text or "")
    return found[1] if found else text


def boxed(text) -> str | None:
    r"""What the last \boxed{...} of a text holds that is closed; None where there is none."""
    found, starts = None, []
    for match in BRACE.finditer(text if isinstance(text, str) else ""):
        if match[0] == "{":
            starts.append(None)
        elif match[0] != "}":
            starts += [match.end()] if match[0].startswith("\\boxed") else []
        elif starts and (start := starts.pop()) is not None:
            found = text[start : match.start()]
    return found


def once(raw: Dataset, to_row: Callable[[dict], dict], columns: Sequence[str]) -> Dataset:
    """The raw rows with each problem once, the first of those with a gold; `unreadable` where the golds differ.

    columns: those that `to_row` reads. Rows without a problem all stay. A problem is held as 64 bits, of its text's hash.
    """
    first: dict[int, tuple[int, str | None]] = {}
    kept, differing = [], set()
    for at, row in enumerate(map(to_row, _cells(raw, columns))):
        if not row["prompt"]:
            kept.append(at)
            continue
        problem = hash(row["prompt"][0]["content"])
        known, gold = first.get(problem, (at, None))
        if gold is None:
            first[problem] = (known if row["answer"] is None else at), row["answer"]
        elif row["answer"] not in (None, gold):
            differing.add(known)
    kept = sorted([*kept, *(row for row, _ in first.values())])
    rows = raw.select(kept)
    lacks = rows[_source.UNREADABLE][:] if _source.UNREADABLE in raw.column_names else [None] * len(kept)
    lacks = [DIFFERING if row in differing else lack for row, lack in zip(kept, lacks, strict=True)]
    others = [c for c in raw.column_names if c != _source.UNREADABLE]
    return rows.select_columns(others).add_column(_source.UNREADABLE, lacks, feature=Value("string"))


def _cells(raw: Dataset, columns: Sequence[str]) -> Iterator[dict]:
    """The rows with these columns only, of which not all have to be there: by batches, which are faster than rows."""
    for batch in raw.select_columns([c for c in columns if c in raw.column_names]).iter(1000):
        yield from (dict(zip(batch, cells, strict=True)) for cells in zip(*batch.values(), strict=True))
