"""Problems with tests in Python, of APPS, CodeContests, Codeforces and TACO, by open-r1: 35,735. No licence is declared.

Raw row: {"problem_statement", "gold_standard_solution": fenced, "verification_info": {"language", "test_cases": [{"input",
"output", "type", "fn_name"}]}, ...}; in its -tested variants, the first is `problem`. Compared exactly, 5 seconds a case, as by
open-r1's reward. About 200 rows test a function, by arguments in no form that can be read: those have no tests here.
"""

import re

from data import _programs, _rows

HUB = "open-r1/verifiable-coding-problems-python"
COLUMNS = [("problem_statement", "verification_info"), ("problem", "verification_info")]
SPLITS = ("train",)
GIVES = _rows.PROGRAM
FENCE = re.compile(r"```(?:python)?[ \t]*\n(.*?)```", re.DOTALL)


def to_row(raw: dict) -> dict:
    """The statement says itself that the program reads stdin and prints to stdout."""
    info = _programs.loads(raw["verification_info"]) or {}
    cases = info.get("test_cases") or []
    readable = info.get("language") == "python" and all(case["type"] == "stdin_stdout" for case in cases)
    tests = _programs.stdin([(c["input"], c["output"]) for c in cases], 5.0) if readable else None
    statement = raw.get("problem_statement") or raw.get("problem")
    fenced = FENCE.search(raw.get("gold_standard_solution") or "")
    return _rows.program(statement and f"{statement.strip()}\n\n{_programs.WHOLE}", tests, fenced and fenced[1])
