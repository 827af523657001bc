"""OpenR1-Math-220k's traces: of the 2 to 4 that DeepSeek-R1 wrote on a problem, the first that was judged right. Apache-2.0.

93,733 problems, each with a trace that math-verify or, where it could not tell, a model of 70B judged right. `openr1_math` has the
same problems without traces.
Raw row: {"problem": str, "answer": str, "generations": [str], "is_reasoning_complete": [bool], "correctness_math_verify": [bool],
"correctness_llama": [bool] or null, ...}; the lists of verdicts may be null or short.
"""

from datasets import Features

from data import _rows, cold_start

HUB = "open-r1/OpenR1-Math-220k"
CONFIG = "default"
REVISION = "e4e141ec9dea9f8326f4d347be56105859b2bd68"
COLUMNS = ("problem", "generations", "is_reasoning_complete", "correctness_math_verify")
ONLY_BY_NAME = True
SPLITS = ("train",)
GIVES = Features(_rows.PROBLEM | {"completion": _rows.MESSAGES})
# the second was asked where the first found none right
JUDGES = ("correctness_math_verify", "correctness_llama")


def to_row(raw: dict) -> dict:
    """`completion` is None where no complete trace was judged right, or none of those has one block of thoughts."""
    traces = map(cold_start.tagged, (trace for judge in JUDGES for trace in right(raw, judge)))
    trace = next(filter(None, traces), None)
    return _rows.problem(raw["problem"], raw.get("answer")) | {
        "completion": [{"role": "assistant", "content": trace}] if trace else None
    }


def right(raw: dict, judge: str) -> list[str]:
    """The complete traces that this judge found right; what it says nothing of is not right."""
    lists = (raw[c] or [] for c in ("generations", "is_reasoning_complete", judge) if c in raw)
    return [trace for trace, *said in zip(*lists, strict=False) if trace and said == [True, True]]


def why(row: dict) -> str | None:
    """What a row lacks, that could not be read; one that is only imitated needs no answer."""
    if not row["prompt"]:
        return "no prompt"
    return None if row["completion"] else "no complete trace that was judged right"
