"""What math_answer pays for: labelled cases, real golds, random equal and unequal pairs, hostile input, lost workers."""

import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards import _math_verify
from rewards.math_answer import MAX_ANSWER, judge, math_answer

CASES, GOLDS, PAIRS = (
    [json.loads(line) for line in Path(__file__).with_name("cases").joinpath(f"{name}.jsonl").open()]
    for name in ("math_cases", "golds", "math_pairs")
)
GOLDS = [row["gold"] for row in GOLDS[1:]]  # the first line names their sources
random_ones = settings(derandomize=True, deadline=None, max_examples=150, database=None)


def verdict(gold, answer):
    return judge([f"<think>so</think><answer>{answer}</answer>"], [gold])[0]


def test_labelled_cases():
    for case in CASES:
        for path in case.get("must_not_create", ()):
            assert not os.path.exists(path), f"{path} was left by something else: remove it"
    _math_verify.start()
    for case in CASES:
        start = time.perf_counter()
        score = math_answer([case["completion"]], answer=[case["gold"]])
        assert score == [float(case["expected"])], case
        assert time.perf_counter() - start < 3, case["id"]
        assert not any(map(os.path.exists, case.get("must_not_create", ())))


def test_real_golds_score_one_in_every_form_and_the_next_one_zero():
    equal = {("5", "x=5")}  # one row after the other in MATH-500
    for gold, following in zip(GOLDS, GOLDS[1:] + GOLDS[:1], strict=True):
        forms = [f"\\boxed{{{gold}}}", f"<answer>{gold}</answer>", f"<answer>\\boxed{{{gold}}}</answer>"]
        assert math_answer(forms, answer=[gold] * 3) == [1.0] * 3
        if following != gold and (gold, following) not in equal:
            assert math_answer([f"<answer>{following}</answer>"], answer=[gold]) == [0.0], (gold, following)


@pytest.mark.parametrize("kind, want", [("equal", 1.0), ("different", 0.0)])
def test_pairs(kind, want):
    """Spellings and near misses of every kind of answer; a gold is also equal to itself."""
    for row in PAIRS:
        for answer in row.get(kind, ()):
            for text in (f"<answer>{answer}</answer>", f"<answer>\\boxed{{{answer}}}</answer>"):
                assert judge([text], [row["gold"]])[0].score == want, (row["gold"], text, judge([text], [row["gold"]]))
        assert verdict(row["gold"], row["gold"]).score == 1.0, row["gold"]


@pytest.mark.parametrize(
    "gold, answer, want",
    [
        ("72", "72", 1.0),
        ("72", " 72. ", 1.0),
        ("72", "$72$", 1.0),
        ("72", "\\$72.00", 1.0),
        ("72", "72 dollars", 1.0),
        ("72", "072", 1.0),
        ("72", "**72**", 1.0),
        ("72", "7.2e1", 1.0),
        ("72", "x = 72", 1.0),
        ("72", "71", 0.0),
        ("72", "-72", 0.0),
        ("72", "72.1", 0.0),
        ("72", "7 2", 0.0),
        ("72", "72 73", 0.0),
        ("72", "70+3", 0.0),
        ("1234", "1,234", 1.0),
        ("1,234", "1234", 1.0),
        ("1234", "12,34", 0.0),
        ("1234", "1.234", 0.0),
        ("2024", "2024.1", 0.0),
        ("0.5", "1/2", 1.0),
        ("0.5", ".5", 1.0),
        ("\\frac{1}{2}", "\\dfrac12", 1.0),
        ("\\frac{5}{2}", "2\\frac{1}{2}", 1.0),
        ("\\frac{5}{2}", "2 1/2", 1.0),
        ("\\frac{1}{3}", "0.33", 0.0),
        ("50\\%", "0.5", 1.0),
        ("5", "500", 0.0),
        ("5 \\text{ cm}", "5", 1.0),
        ("3 \\text{ kg}", "3 \\text{ g}", 0.0),
        ("2x", "2", 0.0),
        ("2x", "x \\cdot 2", 1.0),
        ("3+4i", "4i+3", 1.0),
        ("2\\sqrt{2}", "\\sqrt{8}", 1.0),
        ("2\\sqrt{2}", "2", 0.0),
        ("16\\pi", "16", 0.0),
        ("-5", "−5", 1.0),
        ("52", "5²", 0.0),
    ],
)
def test_math_answer(gold, answer, want):
    assert math_answer([f"<think>so</think><answer>{answer}</answer>"], answer=[gold]) == [want]
    assert math_answer([f"<answer>\\boxed{{{answer}}}</answer>"], answer=[gold]) == [want]


def test_math_answer_takes_messages_and_ignores_other_columns():
    completions = [[{"role": "assistant", "content": "<answer>5</answer>"}], [{"role": "assistant", "content": "5"}]]
    assert math_answer(completions, answer=["5", "5"], prompts=["p", "p"], trainer_state=None) == [1.0, 0.0]


def test_a_gold_of_whole_numbers_is_text():
    assert math_answer(["\\boxed{5}", "\\boxed{6}"], answer=[5, 5]) == [1.0, 0.0]


@pytest.mark.parametrize("gold", [None, "", "  ", "(", "\\frac{1}{", 5.0, math.nan, ["5"], {"a": 5}, True])
def test_broken_gold_gives_none_whatever_the_completion_says(gold):
    assert math_answer(["<answer>5</answer>", "", "<answer>(</answer>"], answer=[gold] * 3) == [None] * 3


@pytest.mark.parametrize(
    "answer",
    [
        "9^{9^{9^{9^{9}}}}",
        "(10^{9})!",
        "1e999999999",
        "1/0",
        "\\frac{1}{0}",
        "9" * 20_000,
        "\\frac{1}{" * 60 + "2" + "}" * 60,
        "__import__('os').system('touch /tmp/r1_recipes_owned')",
        "\x00",
        "\ud800",
        "5 ①/2",
        "٥",
    ],
)
def test_hostile_answers_score_zero_and_end(answer):
    start = time.perf_counter()
    assert math_answer([f"<answer>{answer}</answer>"], answer=["5"]) == [0.0]
    assert time.perf_counter() - start < _math_verify.DEADLINE_S + 30  # with a new worker's start on a busy machine
    assert not os.path.exists("/tmp/r1_recipes_owned")


@pytest.mark.parametrize(
    "answer",
    [
        "(x+y+z+w+1)^{60}",
        "((((x+1)^{9})^{9})^{9})^{9}",
        "(\\sqrt2+\\sqrt3+\\sqrt5+\\sqrt7+\\sqrt{11}+\\sqrt{13})^{40}",
        "+".join(["2004!"] * 90),
        "+".join(f"\\frac{{1}}{{x+{i}}}" for i in range(60)),
        "\\{" + ",".join(["(a+b+c+d)^{12}"] * 60) + "\\}",
        "+".join(f"\\sqrt{{{10**11 + i}}}" for i in range(60)),
        "\\sqrt{" * 35 + "2" + "}" * 35,
        "\\sum_{k=1}^{10^{9}} k",
        "\\int_0^1 x^x dx",
        "\\sin^{50}(x)+i\\cos^{50}(x+1)",
        "{" * 999,
        "\\text{" * 150 + "}" * 150,
        "1e999999",
        "0.\\overline{" + "3" * 390 + "}",
        ",".join("1" for _ in range(490)),
    ],
)
@pytest.mark.parametrize("gold", ["5", "x^2+1", "\\{1,2\\}", "\\sin 1+i"])
def test_costly_answers_are_refused_or_decided_at_once(gold, answer):
    _math_verify.start()
    start = time.perf_counter()
    assert verdict(gold, answer).score == 0.0
    assert time.perf_counter() - start < 3


def test_gold_beyond_the_readers_here_is_left_to_math_verify():
    assert verdict("{4 \\choose 2}", "6") == (1.0, "math_verify", "math-verify says equal")
    assert verdict("\\sqrt{3+2\\sqrt{2}}", "1+\\sqrt{2}").path == "math_verify"
    assert verdict("\\sqrt{3+2\\sqrt{2}}", "2+\\sqrt{2}") == (0.0, "algebra", "different")  # refuted by values


# --- random pairs that are equal or unequal by construction


def spellings(value: Fraction, r: random.Random) -> str:
    """One of the ways to write a rational number."""
    sign, n, d = "-" * (value < 0), abs(value.numerator), value.denominator
    k = r.randint(2, 9)
    ways = [
        f"\\frac{{{sign}{n}}}{{{d}}}",
        f"{sign}{n}/{d}",
        f"{sign}\\dfrac{{{n * k}}}{{{d * k}}}",
        f"\\frac{{{n}}}{{{sign}{d}}}",
    ]
    ways.append(f"{sign}({n} \\div {d})")
    if n > d > 1:
        ways += [f"{sign}{n // d}\\frac{{{n % d}}}{{{d}}}", f"{sign}{n // d} {n % d}/{d}"]
    if d == 1:
        ways += [
            f"{sign}{n}",
            f"{sign}{n:,}",
            f"{sign}{n}.0",
            f"${sign}{n}$",
            f"x = {sign}{n}",
            f"{sign}{n:,}".replace(",", "\\,"),
        ]
        ways += [f"{sign}{n - k} + {k}"] if not sign and n > k else []
    twos, fives = ((d & -d).bit_length() - 1), 0
    while d % 5 ** (fives + 1) == 0:
        fives += 1
    if d == 2**twos * 5**fives:
        places = max(twos, fives, 1)
        digits = str(n * 10**places // d).zfill(places + 1)
        ways += [
            f"{sign}{digits[:-places]}.{digits[-places:]}",
            f"{sign}{digits} \\times 10^{{-{places}}}",
            f"{sign}{digits}e-{places}",
        ]
        ways.append(f"{sign}{digits[:-places]}.{digits[-places:]}00")
    elif math.gcd(d, 10) == 1:
        period = next(p for p in range(1, d + 1) if (10**p - 1) % d == 0)
        if period < 200:
            block = str(n % d * (10**period - 1) // d).zfill(period)
            ways.append(f"{sign}{n // d}.\\overline{{{block}}}")
    return r.choice(ways)


rationals = st.fractions(min_value=-5000, max_value=5000, max_denominator=60)


@random_ones
@given(rationals, rationals, st.randoms(use_true_random=False))
def test_rationals_agree_exactly_when_they_are_equal(a, b, r):
    one, other = spellings(a, r), spellings(a, r)
    assert verdict(one, other).score == verdict(other, one).score == 1.0, (one, other)
    other = spellings(b, r)
    assert verdict(one, other).score == verdict(other, one).score == float(a == b), (one, other)


class Number:
    """Random closed forms: LaTeX, rewritten LaTeX, and a float for the truth, all of the same value."""

    def __init__(self, latex: str, rewritten: str, value: complex):
        self.latex, self.rewritten, self.value = latex, rewritten, value

    def __repr__(self):
        return f"{self.latex} ~ {self.rewritten}"


def leaves():
    whole = st.integers(1, 12).map(lambda n: Number(str(n), f"\\frac{{{2 * n}}}{{2}}", n))
    root = st.integers(2, 30).map(lambda n: Number(f"\\sqrt{{{n}}}", f"\\frac{{{n}}}{{\\sqrt{{{n}}}}}", n**0.5))
    cube = st.integers(2, 9).map(lambda n: Number(f"\\sqrt[3]{{{n}}}", f"{n}^{{1/3}}", n ** (1 / 3)))
    letter = st.sampled_from([("x", 1.37), ("y", 0.61), ("\\pi", math.pi), ("i", 1j)])
    return st.one_of(whole, root, cube, letter.map(lambda v: Number(v[0], f"(1 \\cdot {v[0]})", v[1])))


def grown(smaller):
    def add(p):
        a, b = p
        return Number(f"{a.latex}+{b.latex}", f"{b.rewritten}+{a.rewritten}", a.value + b.value)

    def subtract(p):
        a, b = p
        return Number(f"{a.latex}-({b.latex})", f"-({b.rewritten})+{a.rewritten}", a.value - b.value)

    def times(p):
        a, b, c = p
        expanded = f"({a.rewritten})({c.rewritten})+({b.rewritten})({c.rewritten})"
        return Number(f"({a.latex}+{b.latex})({c.latex})", expanded, (a.value + b.value) * c.value)

    def over(p):
        a, n = p
        return Number(
            f"\\frac{{{a.latex}}}{{{n}+\\sqrt{{2}}}}",
            f"\\frac{{({n}-\\sqrt{{2}})({a.rewritten})}}{{{n * n - 2}}}",
            a.value / (n + 2**0.5),
        )

    def square(a):
        return Number(f"({a.latex})^2", f"({a.rewritten})({a.rewritten})", a.value**2)

    return st.one_of(
        st.tuples(smaller, smaller).map(add),
        st.tuples(smaller, smaller).map(subtract),
        st.tuples(smaller, smaller, smaller).map(times),
        st.tuples(smaller, st.integers(2, 9)).map(over),
        smaller.map(square),
    )


numbers = st.recursive(leaves(), grown, max_leaves=5).filter(lambda n: len(n.latex) < 150 and len(n.rewritten) < 400)


@random_ones
@given(numbers)
def test_rewritten_expressions_are_equal(number):
    assert verdict(number.latex, number.rewritten)[:2] in ((1.0, "algebra"), (1.0, "exact")), number
    assert verdict(number.rewritten, number.latex).score == 1.0, number


@random_ones
@given(numbers, numbers)
def test_expressions_of_different_value_differ(a, b):
    scale = max(1.0, abs(a.value), abs(b.value))
    got = verdict(a.latex, b.latex)
    if abs(a.value - b.value) > 1e-6 * scale:
        assert got.score == verdict(b.latex, a.latex).score == 0.0, (a, b, got)
    elif got.score == 0.0:  # different forms may meet at one point, but hardly twice
        assert abs(a.value - b.value) > 1e-12 * scale or {"x", "y"} & set(a.latex + b.latex), (a, b, got)


@random_ones
@given(numbers, numbers, st.sampled_from(["({},{})", "[{},{})", "\\{{{},{}\\}}", "{},{}", "x={},y={}"]))
def test_parts_are_compared_one_by_one(a, b, form):
    gold, answer = form.format(a.latex, b.latex), form.format(a.rewritten, b.rewritten)
    assert verdict(gold, answer).score == 1.0, (gold, answer)
    assert verdict(gold, form.format(a.rewritten, b.rewritten + "+1")).score == 0.0, (gold, answer)


# --- any text at all

PIECES = [
    "\\frac", "\\sqrt", "\\boxed{", "{", "}", "(", ")", "[", "\\{", "^", "_", "!", "\\text{",
    "\\begin{pmatrix}", "&", "\\\\", "9", "x", "i", "\\pi", "\\sin", ",", "=", "<", "\\pm", "\\%", "$", "\x00",
    "\ud800", "١", "①", "1/2", "²", " ", "\\", "|", "0.\\overline", "</answer>", "<answer>", "<think>",
    "</think>", "\n",
]  # fmt: skip


def memory_mb(key: str) -> float:
    return int(re.search(rf"{key}:\s*(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


@settings(random_ones, max_examples=60)
@given(st.lists(st.sampled_from(PIECES), max_size=60), st.text(max_size=50), st.sampled_from([1, 7, 60, 2000]))
def test_any_text_gets_a_score_soon_and_in_little_memory(pieces, text, times):
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM, the peak, starts again from what the process now holds
    before = memory_mb("VmHWM")
    body = ("".join(pieces) + text) * times
    for completion in (body[:100_000], f"<answer>{body[:100_000]}</answer>", f"\\boxed{{{body[: MAX_ANSWER - 2]}}}"):
        start = time.perf_counter()
        (got,) = judge([completion], ["\\frac{x}{2}"])
        assert got.score in (0.0, 1.0) and not got.reason.startswith("reading it raised"), got
        assert time.perf_counter() - start < 3 + _math_verify.DEADLINE_S  # a server may have to start
    assert memory_mb("VmHWM") - before < 128


@pytest.mark.parametrize(
    "piece", ["a", "\\boxed{", "<answer>", "{", "\\boxed{5}", "</think>", "9", "\\frac{1}{2}+", "$", "\\", " "]
)
def test_cost_is_linear_in_the_completion(piece):
    start = time.perf_counter()
    for wrap in ("{}", "<answer>{}</answer>", "\\boxed{{{}}}", "<think>{}</think><answer>5</answer>"):
        assert math_answer([wrap.format(piece * (1_000_000 // len(piece)))], answer=["5"])[0] in (0.0, 1.0)
    assert time.perf_counter() - start < 8  # quadratic takes minutes


# --- the trainer's side: metrics, explanations, lost processes

KEYS = {
    "ungradable",
    "no_answer",
    "by_exact",
    "by_structure",
    "by_algebra",
    "by_math_verify",
    "refused",
    "timeouts",
    "seconds",
}


@pytest.mark.parametrize(
    "golds, answers, want",
    [
        ([], [], {}),
        (["5"] * 4, ["5", "6", None, "9^{9^{9}}"], {"by_exact": 0.5, "no_answer": 0.25, "refused": 0.25}),
        (
            ["(", "(1,2)", "\\sqrt2", "{4 \\choose 2}"],
            ["5", "(1,3)", "\\sqrt3", "6"],
            dict.fromkeys(["ungradable", "by_structure", "by_algebra", "by_math_verify"], 0.25),
        ),
    ],
)
def test_metrics_have_the_same_names_for_every_batch(golds, answers, want):
    logged = []
    math_answer(
        ["" if a is None else f"<answer>{a}</answer>" for a in answers],
        answer=golds,
        log_metric=lambda name, value: logged.append((name, value)),
    )
    assert sorted(name for name, _ in logged) == sorted(f"math_answer/{key}" for key in KEYS)
    shares = {name.removeprefix("math_answer/"): value for name, value in logged}
    assert shares.pop("seconds") >= 0
    assert shares == {key: want.get(key, 0.0) for key in KEYS - {"seconds"}}


@pytest.mark.parametrize(
    "gold, text, expected",
    [
        ("5", "it is 5", ["no <answer> or \\boxed was found", "score    0.0"]),
        ("5", "<think>\\boxed{5}", ["<think> is never closed", "score    0.0"]),
        ("5", "\\boxed{5} \\boxed{6}", ["2 different \\boxed", "score    0.0"]),
        ("5", "<answer>5", ["<answer> is never closed", "score    0.0"]),
        ("\\frac{1}{2}", "<answer>$0.50$</answer>", ["read as  0.50", "decided  by exact: equal", "score    1.0"]),
        ("(1,2)", "\\boxed{(1,3)}", ["by structure: different", "score    0.0"]),
        ("x", "<answer>blah blah blah + x</answer>", ["no mathematics", "score    0.0"]),
        ("(", "<answer>5</answer>", ["the gold answer can't be read", "score    None"]),
    ],
)
def test_a_verdict_is_explained(gold, text, expected):
    command = [sys.executable, "-m", "rewards.math_answer", "--gold", gold, "--text", text]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    assert len(done.stdout.splitlines()) <= 6 and not done.stderr
    for line in expected:
        assert line in done.stdout


def test_an_explanation_steers_no_terminal():
    text = "<answer>\\boxed{5\x1b[31m é}</answer>"
    command = [sys.executable, "-m", "rewards.math_answer", "--gold", "é\x1b]0;x\x07", "--text", text]
    for env in ({}, {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}):
        done = subprocess.run(
            command, capture_output=True, check=True, cwd=Path(__file__).parents[1], env=os.environ | env
        )
        assert done.stdout.isascii() and not {7, 27} & set(done.stdout) and len(done.stdout.splitlines()) == 5


def test_threads_do_not_mix_their_verdicts():
    pairs = [[(f"{{{n} \\choose 1}}", str(n + (n + k) % 2)) for n in range(30, 60)] for k in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for batch, got in zip(pairs, pool.map(_math_verify.equal, pairs), strict=True):
            assert got == [gold == f"{{{answer} \\choose 1}}" for gold, answer in batch]


def asked(n: int) -> float:
    """The score of an answer that math-verify has to compare, new to the caches."""
    return verdict(f"{{{n} \\choose 1}}", str(n)).score


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_killed_workers_and_a_killed_server_are_replaced():
    assert asked(20) == 1.0
    server = _math_verify._server.pid
    workers = children(server)
    assert len(workers) == _math_verify.workers_here()
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    both = judge(["\\boxed{12}", "\\boxed{13}", "\\boxed{14}"], [f"{{{n} \\choose 1}}" for n in (12, 13, 14)])
    assert [v.score for v in both] == [1.0] * 3
    assert _math_verify._server.pid == server and not set(children(server)) & set(workers)
    os.kill(server, signal.SIGKILL)
    assert asked(23) == 1.0
    assert _math_verify._server.pid != server


def test_a_stuck_pair_is_killed_and_scores_zero_while_others_go_on(monkeypatch):
    monkeypatch.setattr(_math_verify, "refusal", lambda text: None)
    bomb = "((x+y+z+w+1)^{200}(x+i)^{99})!"
    start = time.perf_counter()
    got = judge([f"<answer>{a}</answer>" for a in ("7", bomb, "8")], ["{7 \\choose 1}"] * 3)
    assert [v.score for v in got] == [1.0, 0.0, 0.0] and got[1].path == "timeout"
    assert time.perf_counter() - start < 2 * _math_verify.DEADLINE_S + 3


def test_the_server_gets_no_secret_and_no_open_file(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_API_KEY", "a-secret")
    _math_verify.stop()
    with open(tmp_path / "held", "w"):
        assert asked(24) == 1.0
    for pid in [_math_verify._server.pid, *children(_math_verify._server.pid)]:
        assert "a-secret" not in Path(f"/proc/{pid}/environ").read_text()
        assert str(tmp_path) not in str([os.readlink(f) for f in Path(f"/proc/{pid}/fd").iterdir()])


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGTERM])
def test_the_server_is_gone_soon_after_its_parent(way):
    code = "import time; from rewards import _math_verify as m; m.start(); print(m._server.pid, flush=True); time.sleep(60)"
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
    )
    server = int(parent.stdout.readline())
    family = [server, *children(server)]
    assert len(family) > 1
    parent.send_signal(way)
    parent.wait()
    end = time.monotonic() + 2
    while not all(map(gone, family)) and time.monotonic() < end:
        time.sleep(0.05)
    assert all(map(gone, family))


def test_a_fork_starts_its_own_server():
    assert asked(25) == 1.0
    server = _math_verify._server.pid
    child = os.fork()
    if child == 0:
        os._exit(int(not (asked(26) == 1.0 and _math_verify._server.pid != server)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert _math_verify._server.pid == server and asked(27) == 1.0


def test_workers_share_the_cores_with_the_other_ranks(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    for ranks, want in (("", 8), ("2", 4), ("16", 1)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
        assert _math_verify.workers_here() == want


def test_a_server_that_can_not_start_raises(monkeypatch):
    _math_verify.stop()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="did not start"):
        asked(28)
