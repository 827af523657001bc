"""Why a program earned what it did, test by test: python -m rewards.code_tests --explain."""

import json
from collections.abc import Generator

from rewards._program_output import outcome_is_right
from rewards._programs import extract
from rewards._sandbox import records, tester
from rewards._sandbox.pool import Outcome, Run, shared
from rewards._tests_column import usable
from rewards._text import printable

WHY = {"time": "ran out of time", "memory": "used too much memory", "output": "wrote too much"}


def explain(text: str, tests: dict | str) -> list[str]:
    """One line a test, and what was found before them; every line is safe to print. Raises NoIsolation."""
    row = usable(tests)
    if row is None:
        return ["ungradable: the tests are none that can be run, so the score is None"]
    code = extract(text)
    if code is None:
        return [
            "no program: there is no closed python fence after the thoughts, or it holds only starter code; score 0.0"
        ]
    parts = row["cases"] if row["type"] == "stdin" else row["asserts"]
    lines = shared().map(one_test(code, row, part) for part in parts)
    passed = sum(line.startswith("passed") for line in lines)
    lines = [f"{number:4}  {line}" for number, line in enumerate(lines, 1)]
    return [
        *map(printable, lines),
        f"score {passed / len(parts)}: {passed} of {len(parts)} tests, each run by itself here",
    ]


def one_test(code: str, row: dict, part: dict | str) -> Generator[Run, Outcome, str]:
    if row["type"] == "stdin":
        outcome = yield Run("stdin", code, part["input"], row["time_limit"], prelude=row["prelude"])
        if outcome_is_right(outcome, part["output"], row["float_tolerance"]):
            return "passed"
        if outcome.why != "ended":
            return f"failed: {WHY[outcome.why]}"
        written = outcome.output.decode("utf-8", "replace")
        ended = f"exit code {outcome.code}, " if outcome.code else ""
        return f"failed: {ended}wrote {written[:200]!r}, expected {part['output'][:200]!r}"
    data = json.dumps(row | {"asserts": [part], "done": 0, "explain": True})
    before = f"{row['prelude']}\n{records.source(row['setup'])}"
    outcome = yield Run("assert", code, data, row["time_limit"], prelude=before)
    shown = " ".join(part.split())[:120]
    if not outcome.output.startswith(tester.LOADED):
        return f"failed: {WHY.get(outcome.why, 'the program itself fails when it is loaded')}  [{shown}]"
    verdict, reason = outcome.output[1:2], outcome.output[2:].decode("utf-8", "replace")
    if verdict == tester.PASSED:
        return f"passed  [{shown}]"
    why = WHY.get(outcome.why) or reason or "the program ended itself"
    return f"failed: {why}  [{shown}]"
