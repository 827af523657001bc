"""Does the completion's program pass its tests? Run behind walls, in processes of its own, against tests it can't see.

Whatever is paid for here is learned: leaving with exit code 0 before the tests, printing "passed", objects equal to
everything, patched builtins, searching the heap for the asserts. So a program's output is compared in this process, and
asserts run in a tester process that gets only plain data from the candidate (rewards/_sandbox/).

    python -m rewards.code_tests --doctor     # which isolation this machine gives, why, and what it doesn't cover
"""

import argparse
import ast
import functools
import json
import logging
import re
import sys
import time
from collections.abc import Generator
from decimal import Decimal
from typing import NamedTuple

from rewards._sandbox import isolation, records, tester
from rewards._sandbox.pool import NoIsolation, Outcome, Pool, Run, shared
from rewards._text import text_of

TIME_LIMIT_S = 5.0  # where the row gives none
MAX_TIMEOUTS = 4  # a program that ran out of time on so many tests is not run on the rest, which count as failed
MAX_CODE = 1 << 20  # characters

PYTHON = ("python", "py", "pypy")
LANGUAGE = re.compile(r"[\s{.]*([a-z+#]*)")  # python of python3.11, {.python} and python:main.py
DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)


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
    Both may have a "prelude": source that is run before the program and is there for the asserts as well (imports, ListNode,
    helpers). Instances of its classes cross as their attributes. For asserts, programs also find the names of typing, math,
    collections, itertools, functools, heapq, bisect and re, as on LeetCode.
    Asserts share one run of the module. They may import the standard library, NumPy, and from `solution`; what they bind
    themselves is theirs, and an object of the candidate is no evidence: it has no truth value, and equals no literal.
    None where the tests are unusable (none at all, another import, one that runs nothing), and for all where this machine
    allows no isolation: nothing is ever run without.
    Raises SandboxDied when the sandbox can't be kept alive; that is never a 0.0.
    """
    start = time.perf_counter()
    try:
        pool = shared()
    except NoIsolation as error:
        logging.getLogger(__name__).error("code_tests gives no reward at all: %s", error)
        return [None] * len(completions)
    verdicts = pool.map(judge(text_of(c), t) for c, t in zip(completions, tests, strict=True))
    scores = [v.share if v.share is None or not binary else float(v.share == 1.0) for v in verdicts]
    if log_metric is not None:
        counts = {
            "ungradable": sum(v.share is None for v in verdicts),
            "no_code": sum(v.no_code for v in verdicts),
            "timeouts": sum(v.timeouts > 0 for v in verdicts),
            "over_limits": sum(v.over_limits > 0 for v in verdicts),
            "all_passed": sum(v.share == 1.0 for v in verdicts),
        }
        for name, count in counts.items():
            log_metric(f"code_tests/{name}", count / max(1, len(verdicts)))
        log_metric("code_tests/seconds", time.perf_counter() - start)
    return scores


def judge(text: str, tests: dict | str | None) -> Generator[Run, Outcome, Verdict]:
    """Score one completion: yields the runs that it takes, and is sent their outcomes."""
    tests = usable(tests)
    if tests is None:
        return Verdict(None)
    code = extract(text)
    if code is None:
        return Verdict(0.0, no_code=True)
    if tests["type"] == "stdin":
        return (yield from judge_output(code, tests["prelude"], tests["cases"], tests["time_limit"]))
    return (yield from judge_asserts(code, tests["prelude"], tests["setup"], tests["asserts"], tests["time_limit"]))


def judge_output(code: str, prelude: str, cases: list[dict], limit_s: float) -> Generator[Run, Outcome, Verdict]:
    """Each case in a process of its own, on real stdin; a case that fails doesn't end the others."""
    passed = timeouts = over_limits = 0
    for case in cases:
        outcome = yield Run("stdin", code, case["input"], limit_s, prelude=prelude)
        passed += outcome.why == "ended" and outcome.code == 0 and same_output(outcome.output, case["output"])
        timeouts += outcome.why == "time"
        over_limits += outcome.why in ("memory", "output")
        if timeouts == MAX_TIMEOUTS:
            break
    return Verdict(passed / len(cases), timeouts=timeouts, over_limits=over_limits)


def judge_asserts(
    code: str, prelude: str, setup: str, asserts: list[str], limit_s: float
) -> Generator[Run, Outcome, Verdict]:
    """All asserts on one run of the module; after one that ends it, the rest on a fresh run."""
    passed = timeouts = over_limits = done = 0
    before = f"{prelude}\n{records.source(setup)}"
    while done < len(asserts):
        data = json.dumps({"prelude": prelude, "setup": setup, "asserts": asserts, "done": done})
        outcome = yield Run("assert", code, data, limit_s, count=len(asserts) - done, prelude=before)
        timeouts += outcome.why == "time"
        over_limits += outcome.why in ("memory", "output")
        if not outcome.output.startswith(tester.LOADED):
            break  # the module itself fails, or never ends
        verdicts = outcome.output[1 : 1 + len(asserts) - done]
        passed += verdicts.count(tester.PASSED)
        # the one that it ended in failed too, and got no verdict unless it is DIED
        done += len(verdicts) + (not verdicts.endswith(tester.DIED) and len(verdicts) < len(asserts) - done)
        if timeouts == MAX_TIMEOUTS:
            break
    return Verdict(passed / len(asserts), timeouts=timeouts, over_limits=over_limits)


def usable(tests: dict | str | None) -> dict | None:
    """A row's tests in one form, or None when there is nothing to run: no tests at all are not all passed."""
    if isinstance(tests, str):
        try:
            tests = json.loads(tests)
        except (ValueError, RecursionError):
            return None
    if not isinstance(tests, dict):
        return None
    limit_s = tests.get("time_limit") or TIME_LIMIT_S
    if isinstance(limit_s, bool) or not isinstance(limit_s, (int, float)) or not 0 < limit_s < 3600:
        return None
    prelude = tests.get("prelude") or ""
    if not isinstance(prelude, str) or (prelude and not importable((prelude,))):
        return None
    if tests.get("type") == "stdin":
        cases = tests.get("cases")
        if not isinstance(cases, list) or not cases:
            return None
        if not all(isinstance(c, dict) and all(isinstance(c.get(k), str) for k in ("input", "output")) for c in cases):
            return None
        return {"type": "stdin", "prelude": prelude, "cases": cases, "time_limit": float(limit_s)}
    if tests.get("type") == "assert":
        setup, asserts = tests.get("setup") or "", tests.get("asserts")
        if not isinstance(setup, str) or not isinstance(asserts, list) or not asserts:
            return None
        if not all(isinstance(a, str) and runs_something(a) for a in asserts) or not importable((setup, *asserts)):
            return None
        return {"type": "assert", "prelude": prelude, "setup": setup, "asserts": asserts, "time_limit": float(limit_s)}
    return None


@functools.lru_cache(maxsize=1024)
def runs_something(source: str) -> bool:
    """Whether a test is Python, and does more than define: a function that nobody calls would pass everything."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    idle = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom, ast.Pass)
    return any(not isinstance(node, idle) and not _is_constant(node) for node in tree.body)


def _is_constant(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


@functools.lru_cache(maxsize=1024)  # a group of completions has the same tests
def importable(sources: tuple[str, ...]) -> bool:
    """Whether tests are Python, and import only what the sandbox has: the standard library, NumPy, and the solution."""
    try:
        nodes = [node for source in sources for node in ast.walk(ast.parse(source))]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    modules = {alias.name for n in nodes if isinstance(n, ast.Import) for alias in n.names}
    modules |= {n.module or "." for n in nodes if isinstance(n, ast.ImportFrom)}
    return all(m.partition(".")[0] in sys.stdlib_module_names | {"numpy", "solution"} for m in modules)


def extract(text: str) -> str | None:
    """The program that a completion commits to, or None."""
    thoughts_end = text.rfind("</think>")
    if text.rfind("<think>") > thoughts_end:
        return None
    text = text[thoughts_end + len("</think>") :] if thoughts_end >= 0 else text
    end = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, end) if end >= 0 else -1
    blocks = fences(text[start + len("<answer>") : end] if start >= 0 else text)
    tagged = [code for tag, code in blocks if tag in PYTHON] or [code for tag, code in blocks if not tag]
    return tagged[-1] if tagged and tagged[-1].strip() and len(tagged[-1]) <= MAX_CODE else None


def fences(text: str) -> list[tuple[str, str]]:
    """(language in lower case, contents) of each closed Markdown fence, in one pass."""
    found, opening, language, indent, body = [], "", "", 0, []
    for line in text.split("\n"):
        mark = line.strip()
        count = len(mark) - len(mark.lstrip(mark[:1])) if mark[:1] in ("`", "~") else 0
        if not opening:
            if count >= 3 and "`" not in mark[count:]:
                opening, indent, body = mark[:count], len(line) - len(line.lstrip()), []
                language = LANGUAGE.match(mark[count:].lower())[1]
        elif mark[:1] == opening[0] and count >= len(opening) and count == len(mark):
            found.append((language, "\n".join(body)))
            opening = ""
        else:
            body.append(line[min(indent, len(line) - len(line.lstrip())) :])
    return found


def same_output(output: bytes, expected: str) -> bool:
    """Line by line, but for blanks at the end of a line and empty lines at the end; 2.50 equals 2.5, exactly."""
    given, wanted = lines_of(output.decode("utf-8", "replace")), lines_of(expected)
    return len(given) == len(wanted) and all(map(same_line, given, wanted))


def lines_of(text: str) -> list[str]:
    lines = [line.rstrip() for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def same_line(given: str, wanted: str) -> bool:
    if given == wanted:
        return True
    ours, theirs = given.split(" "), wanted.split(" ")
    return len(ours) == len(theirs) and all(map(same_token, ours, theirs))


def same_token(given: str, wanted: str) -> bool:
    """Equal as text or, where one is a decimal fraction, as exact numbers: floats would merge large integers."""
    if given == wanted:
        return True
    if "." not in given and "." not in wanted:
        return False
    if max(len(given), len(wanted)) > 1000 or not (DECIMAL.fullmatch(given) and DECIMAL.fullmatch(wanted)):
        return False
    return Decimal(given) == Decimal(wanted)


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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m rewards.code_tests", description=__doc__.split("\n")[0])
    parser.add_argument("--doctor", action="store_true", required=True, help="which isolation this machine gives")
    parser.parse_args()
    raise SystemExit(doctor())
