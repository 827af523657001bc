"""Open-Reasoner-Zero's 57k problems (arXiv 2503.24290), of AIME, MATH, NuminaMath and Tulu 3. 56,878 rows, MIT.

Raw row, one pair of a JSON array: [{"from": "human", "value": <problem>}, {"from": "assistant", "ground_truth": {"value": <gold>}}],
of which `datasets` makes the columns "0" and "1". The 72k and 13k collections have the same shape: read them by `path`.
"""

from data import _golds, _rows

HUB = "Open-Reasoner-Zero/orz_math_57k_collection"
COLUMNS = ("0", "1")
ONLY_BY_NAME = True
SPLITS = ("train",)
GIVES = _rows.PROBLEM


def to_row(raw: dict) -> dict:
    asked, gold = raw["0"] or {}, (raw["1"] or {}).get("ground_truth") or {}
    return _rows.problem(asked.get("value"), _golds.bare(gold.get("value")))
