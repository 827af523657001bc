r"""NuminaMath-1.5: 896,215 problems of contests, olympiads and schools, Apache-2.0.

Proofs and problems whose answer wasn't found are counted as rows without an answer; with `valid: true`, 680,786 rows are left with
one. NuminaMath-CoT and -TIR, read by `path`, have solutions only: the gold is what the last \boxed holds.
Raw row: {"problem": str, "solution": str, "answer": str or "proof" or "notfound", "question_type": str, "problem_is_valid": "Yes",
"solution_is_valid": "Yes", ...}.
"""

from datasets import Dataset

from data import _golds, _rows

HUB = "AI-MO/NuminaMath-1.5"
REVISION = "1b05109f9e5c1ad06c0663519502416c30b300f8"
COLUMNS = [("problem", "answer"), ("problem", "solution")]
ONLY_BY_NAME = True
SPLITS = ("train",)
GIVES = _rows.PROBLEM
CHECKS = ("problem_is_valid", "solution_is_valid")


def select(raw: Dataset, *, valid: bool = False) -> Dataset:
    """With `valid`, the rows whose problem and solution were both found complete. Raises ValueError where that isn't said."""
    if not valid:
        return raw
    if lacks := [c for c in CHECKS if c not in raw.column_names]:
        raise ValueError(f"valid={valid!r} needs the column {lacks[0]!r}, which only NuminaMath-1.5 has")
    columns = zip(*(raw[c][:] for c in CHECKS), strict=True)
    return raw.select([i for i, said in enumerate(columns) if said == ("Yes", "Yes")])


def to_row(raw: dict) -> dict:
    gold = raw["answer"] if "answer" in raw else _golds.boxed(raw["solution"])
    return _rows.problem(raw["problem"], None if raw.get("question_type") == "proof" else _golds.stated(gold))
