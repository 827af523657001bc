"""Does the completion's program pass its tests? Run behind walls, in processes of its own, against tests it can't see.

Whatever is paid for here is learned: leaving with exit code 0 before the tests, printing "passed", objects equal to
everything, patched builtins, searching the heap for the asserts. So a program's output is compared in this process, and
asserts run in a tester process that gets only plain data from the candidate (rewards/_sandbox/).

    python -m rewards.code_tests --doctor     # which isolation this machine gives, why, and what it doesn't cover
    python -m rewards.code_tests --explain --completion completion.txt --tests tests.json    # why, test by test
"""

import argparse
import json
import logging
import time
from collections.abc import Generator
from pathlib import Path
from typing import NamedTuple

from rewards._explain import explain
from rewards._program_output import outcome_is_right
from rewards._programs import extract
from rewards._sandbox import isolation, records, tester
from rewards._sandbox.pool import NoIsolation, Outcome, Pool, Run, shared
from rewards._tests_column import usable
from rewards._text import text_of

MAX_TIMEOUTS = 4  # a program that ran out of time on so many tests is not run on the rest, which count as failed


class Verdict(NamedTuple):
    """share: of tests passed, None where the row has no usable tests; what happened, for the metrics."""

    share: float | None
    no_code: bool = False
    timeouts: int = 0
    over_limits: int = 0


def code_tests(
    completions, *, tests: list[dict | str], binary: bool = False, log_metric=None, **_
) -> list[float | None]:
    """The share of its row's tests that each completion's program passes; with `binary`, 1.0 for all of them, else 0.0.

    The program is the last closed ```python fence of the answer (an untagged one if none is tagged), never of the
    thoughts. tests, one a completion, as a dict or its JSON:
      {"type": "stdin", "cases": [{"input": str, "output": str}, ...], "time_limit": seconds}
      {"type": "assert", "setup": str, "asserts": [str, ...], "time_limit": seconds}
    Both take "prelude", Python that is run before the program and that the tests see as well (imports, ListNode and its
    helpers), and "float_tolerance", up to which two floats are equal, absolute or relative. Asserts share one run of the
    module. They may import the standard library, NumPy, sortedcontainers, and from `solution`; what they bind themselves is
    theirs, and an object of the candidate proves nothing: it has no truth value, and equals no literal.
    None where the tests are unusable (none at all, another import, one that runs nothing), and for all where this machine
    allows no isolation: nothing is ever run without.
    Raises SandboxDied when the sandbox can't be kept alive; that is never a 0.0.
    """
    start = time.perf_counter()
    try:
        pool = shared()
        verdicts = pool.map(judge(text_of(c), t) for c, t in zip(completions, tests, strict=True))
    except NoIsolation as error:
        logging.getLogger(__name__).error("code_tests gives no reward at all: %s", error)
        verdicts = [Verdict(None)] * len(completions)
    if log_metric is not None:  # the same names on every path: processes wait for each other to log them
        for name, value in metrics(verdicts, time.perf_counter() - start).items():
            log_metric(f"code_tests/{name}", value)
    return [v.share if v.share is None or not binary else float(v.share == 1.0) for v in verdicts]


def metrics(verdicts: list[Verdict], seconds: float) -> dict[str, float]:
    counts = {
        "ungradable": sum(v.share is None for v in verdicts),
        "no_code": sum(v.no_code for v in verdicts),
        "timeouts": sum(v.timeouts > 0 for v in verdicts),
        "over_limits": sum(v.over_limits > 0 for v in verdicts),
        "all_passed": sum(v.share == 1.0 for v in verdicts),
    }
    return {name: count / max(1, len(verdicts)) for name, count in counts.items()} | {"seconds": seconds}


def judge(text: str, tests: dict | str | None) -> Generator[Run, Outcome, Verdict]:
    """Score one completion: yields the runs that it takes, and is sent their outcomes."""
    tests = usable(tests)
    if tests is None:
        return Verdict(None)
    code = extract(text)
    if code is None:
        return Verdict(0.0, no_code=True)
    return (yield from (judge_output if tests["type"] == "stdin" else judge_asserts)(code, tests))


def judge_output(code: str, tests: dict) -> Generator[Run, Outcome, Verdict]:
    """Each case in a process of its own, on real stdin; a case that fails doesn't end the others."""
    cases, passed, timeouts, over_limits = tests["cases"], 0, 0, 0
    for case in cases:
        outcome = yield Run("stdin", code, case["input"], tests["time_limit"], prelude=tests["prelude"])
        passed += outcome_is_right(outcome, case["output"], tests["float_tolerance"])
        timeouts += outcome.why == "time"
        over_limits += outcome.why in ("memory", "output")
        if timeouts == MAX_TIMEOUTS:
            break
    return Verdict(passed / len(cases), timeouts=timeouts, over_limits=over_limits)


def judge_asserts(code: str, tests: dict) -> Generator[Run, Outcome, Verdict]:
    """All asserts on one run of the module; after one that ends it, the rest on a fresh run."""
    asserts = tests["asserts"]
    passed = timeouts = over_limits = done = 0
    # classes of the tests' such as ListNode are the program's as well
    before = f"{tests['prelude']}\n{records.source(tests['setup'])}"
    while done < len(asserts):
        data, left = json.dumps(tests | {"done": done}), len(asserts) - done
        outcome = yield Run("assert", code, data, tests["time_limit"], count=left, prelude=before)
        timeouts += outcome.why == "time"
        over_limits += outcome.why in ("memory", "output")
        if not outcome.output.startswith(tester.LOADED):
            break  # the module itself fails, or never ends
        verdicts = outcome.output[1 : 1 + left]
        passed += verdicts.count(tester.PASSED)
        # the one that it ended in failed too, and got no verdict unless it is DIED
        done += len(verdicts) + (not verdicts.endswith(tester.DIED) and len(verdicts) < left)
        if timeouts == MAX_TIMEOUTS:
            break
    return Verdict(passed / len(asserts), timeouts=timeouts, over_limits=over_limits)


def doctor() -> int:
    """Say which tier this machine gives, why no better one, and what it doesn't cover."""
    try:
        pool = Pool(workers=1)
    except NoIsolation as error:
        print(f"No isolation: {error}\ncode_tests would give no reward at all. Nothing is run without isolation.")
        return 1
    print(f"Isolation: {pool.tier}")
    for tier, why in pool.report["refused"].items():
        print(f"  not {tier}: {why}")
    print(isolation.DESCRIPTION[pool.tier])
    if not pool.report["memory_watched"]:
        print(
            "  Not covered: the memory of all processes of a program together (this kernel shows no /proc in a sandbox)."
        )
    pool.close()
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m rewards.code_tests", description=__doc__.split("\n")[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--doctor", action="store_true", help="which isolation this machine gives")
    what.add_argument("--explain", action="store_true", help="why a completion earns what it does, test by test")
    parser.add_argument("--completion", metavar="FILE", help="the complete completion, for --explain")
    parser.add_argument("--tests", metavar="FILE", help="the row's tests as JSON, for --explain")
    options = parser.parse_args()
    if options.doctor:
        return doctor()
    if not options.completion or not options.tests:
        parser.error("--explain needs --completion FILE and --tests FILE")
    try:
        completion, tests = (Path(path).read_text(encoding="utf-8") for path in (options.completion, options.tests))
        print("\n".join(explain(completion, tests)))
    except (OSError, UnicodeDecodeError, NoIsolation) as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
