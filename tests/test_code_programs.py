"""The front of code_tests: which program a completion commits to, which tests a row holds, and what a program prints."""

import json
import subprocess
import sys

import pytest
from conftest import REPO

from rewards import code_tests as module
from rewards._program_output import same_output
from rewards._programs import extract
from rewards._sandbox.pool import NoIsolation
from rewards._tests_column import usable
from rewards.code_tests import code_tests

pytestmark = pytest.mark.sandbox

ONE = "def one():\n    return 1"


def fenced(code: str, tag: str = "python") -> str:
    return f"```{tag}\n{code}\n```"


def score(code: str, **tests) -> float | None:
    kind = "stdin" if "cases" in tests else "assert"
    return code_tests([fenced(code)], tests=[{"type": kind, "time_limit": 5.0, **tests}])[0]


@pytest.mark.parametrize(
    "text, want",
    [
        ("- ```python\n  def one():\n      return 1\n  ```", ONE),
        ("3. ```python\n   def one():\n       return 1\n   ```", ONE),
        ("```python\n\ufeff" + ONE + "\n```", ONE),
        ("\ufeff```python\n" + ONE + "\n```", ONE),
        ("<think>so</think>\n" + fenced("s = '</think>'"), "s = '</think>'"),
        ("<think>so</think>\n" + fenced("s = '<think>'"), "s = '<think>'"),
        ("<answer>\n" + fenced("s = '<answer>'\nt = '</answer>'") + "\n</answer>", "s = '<answer>'\nt = '</answer>'"),
        ("<think>" + fenced(ONE), None),  # the thoughts never end
        ("<think>" + fenced("two = 2") + "</think>" + "\n" + fenced(ONE), ONE),
        ("<think>" + fenced(ONE) + "</think> done", None),
        (fenced("class Solution:\n    def f(self):\n        pass"), None),  # starter code
        (fenced("import math\ndef f(x):\n    '''Double x.'''"), None),
        (fenced("class MyError(ValueError): pass"), "class MyError(ValueError): pass"),
    ],
)
def test_the_program_of_a_completion(text, want):
    assert extract(text) == want


def test_tags_in_programs_cost_linear_time():
    text = "<think>a</think>" + fenced("x = '</think><think>'") * 20_000
    assert extract(text) is None or "x" in extract(text)


CHECK = """
METADATA = {}
def check(candidate):
    big = [1] * 3
    assert candidate(big) == 3
    assert candidate([]) == 0
    other = [2]
    other.append(5)
    assert candidate(other) == 2
    assert True
"""


def test_the_asserts_of_a_check_are_counted_one_by_one():
    tests = {"setup": CHECK, "asserts": ["check(size)"]}
    assert len(usable({"type": "assert", **tests})["asserts"]) == 3
    assert score("def size(xs): return len(xs)", **tests) == 1.0
    assert score("def size(xs): return 3", **tests) == pytest.approx(1 / 3)
    assert score("def other(xs): return len(xs)", **tests) == 0.0
    # a local variable of the check with the function's name stays one
    local = "def check(candidate):\n    for size in ([1], []):\n        assert candidate(size) == len(size)"
    assert score("def size(xs): return len(xs)", setup=local, asserts=["check(size)"]) == 1.0


@pytest.mark.parametrize("value", [0, -1.0, "0.1", True, float("inf"), float("nan")])
def test_a_tolerance_that_is_none_makes_the_row_ungradable(value):
    assert usable({"type": "assert", "asserts": ["assert f() == 1"], "float_tolerance": value}) is None


@pytest.mark.parametrize("prelude", [5, "def f(:", "import torch"])
def test_a_prelude_that_can_not_run_makes_the_row_ungradable(prelude):
    assert usable({"type": "assert", "asserts": ["assert f() == 1"], "prelude": prelude}) is None


def test_a_float_tolerance_holds_for_output_and_asserts_and_is_off_by_default():
    assert same_output(b"0.3333333 5\n", "0.3333334 5", 1e-6) and not same_output(b"0.3333333\n", "0.3333334")
    assert not same_output(b"2024.1", "2024", 1e-6) and not same_output(b"7", "8", 1e-6)
    third, asserts = "def third(x): return [x / 3]", ["assert third(1.0) == [0.333333]"]
    assert score(third, asserts=asserts) == 0.0
    assert score(third, asserts=asserts, float_tolerance=1e-4) == 1.0
    assert score(third, asserts=["assert third(1.0) == [0.34]"], float_tolerance=1e-4) == 0.0
    close = [{"input": "", "output": "0.333333"}]
    assert score("print(1 / 3)", cases=close) == 0.0 and score("print(1 / 3)", cases=close, float_tolerance=1e-4) == 1.0


@pytest.mark.parametrize(
    "code",
    [
        "import os\nfile = os.fdopen(1, 'w')\nfile.write('5')",
        "import sys\nclass Out:\n    def __init__(self, s): self.s = s\n    def write(self, x): self.s.write(x)\n"
        "    def flush(self): self.s.flush()\nsys.stdout = Out(sys.stdout)\nprint(5)",
        "import atexit, sys\nsys.stdout = None\natexit.register(lambda: sys.__stdout__.write('5'))",
        "import sys\nsys.stdout.buffer.write(b'5')",
    ],
)
def test_what_is_flushed_at_exit_counts(code):
    assert score(code, cases=[{"input": "", "output": "5"}]) == 1.0


def test_a_prelude_runs_before_programs_of_both_kinds():
    assert score("print(half(4))", cases=[{"input": "", "output": "2"}], prelude="def half(x): return x // 2") == 1.0
    assert score("def f(xs: List[int]): return heapq.nsmallest(1, xs)", asserts=["assert f([2, 1]) == [1]"]) == 1.0
    sort = "from sortedcontainers import SortedList\ndef f(xs): return list(SortedList(xs))"
    assert score(sort, asserts=["assert f([2, 1]) == [1, 2]"]) == 1.0


def test_the_same_metrics_with_and_without_a_sandbox(monkeypatch):
    def names() -> list[str]:
        logged = []
        tests = {"type": "assert", "asserts": ["assert one() == 1"]}
        scores = code_tests([fenced(ONE)], tests=[json.dumps(tests)], log_metric=lambda name, _: logged.append(name))
        return [*logged, scores[0]]

    *with_one, score_with = names()

    def refuse():
        raise NoIsolation("none here")

    monkeypatch.setattr(module, "shared", refuse)
    *without, score_without = names()
    assert with_one == without and (score_with, score_without) == (1.0, None)


@pytest.mark.parametrize(
    "completion, tests, told",
    [
        (
            fenced("def one(): return 2"),
            {"asserts": ["assert one() == 1", "assert one() == 2"]},
            ["2 and 1", "passed", "1 of 2"],
        ),
        (fenced("def one(): raise KeyError('\x1b[31mno')"), {"asserts": ["assert one() == 1"]}, ["KeyError", "0 of 1"]),
        (fenced("1/0"), {"asserts": ["assert one() == 1"]}, ["fails when it is loaded"]),
        (fenced("while True: pass"), {"asserts": ["assert one() == 1"], "time_limit": 0.5}, ["ran out of time"]),
        (fenced("print(4)"), {"cases": [{"input": "", "output": "5"}]}, ["wrote '4\\n', expected '5'"]),
        ("it is one", {"asserts": ["assert one() == 1"]}, ["no program", "0.0"]),
        (fenced(ONE), {"asserts": []}, ["ungradable"]),
    ],
)
def test_a_score_is_explained_test_by_test(completion, tests, told, tmp_path):
    (tmp_path / "completion").write_text(completion)
    (tmp_path / "tests").write_text(json.dumps({"type": "stdin" if "cases" in tests else "assert"} | tests))
    command = [sys.executable, "-m", "rewards.code_tests", "--explain"]
    command += ["--completion", str(tmp_path / "completion"), "--tests", str(tmp_path / "tests")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPO, check=True)
    assert all(words in done.stdout for words in told) and "\x1b" not in done.stdout, done.stdout
