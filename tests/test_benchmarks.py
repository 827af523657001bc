"""Each benchmark runs to its end, at its smallest size. What it measures is not looked at here: a loaded machine would decide."""

import json
import re
import sys

import forked
import pytest
from conftest import REPO, run_sft

pytestmark = pytest.mark.launches


# a benchmark whose recipes are processes without the seconds of their imports
FORKED_RECIPES = f"""
import runpy, subprocess, sys
sys.path[:0] = [{str(REPO / "benchmarks")!r}, {str(REPO / "tests")!r}]
import forked
subprocess.run = forked.run_here
sys.argv = sys.argv[1:]
if sys.argv[0] == "benchmarks/grpo_vs_ppo.py":
    subprocess.Popen = forked.Here.Popen
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def benchmark(name: str, *argv: str) -> str:
    done = forked.run([sys.executable, "-c", FORKED_RECIPES, f"benchmarks/{name}.py", *argv], timeout=900)
    slow = name == "recipe_overhead" and "median ratio" in done.stdout  # it says 1 then
    assert done.returncode == 0 or slow, done.stderr[-3000:]
    return done.stdout


def test_recipe_overhead(base):
    said = benchmark("recipe_overhead", "--pairs", "1", "--steps", "1", "--model", base)
    assert re.search(r"median ratio \d\.\d{3}", said)


def test_grpo_vs_ppo(base, tmp_path):
    said = benchmark(
        "grpo_vs_ppo",
        "--steps",
        "1",
        "--seeds",
        "1",
        "--held_out",
        "20",
        "--model",
        base,
        "--figure",
        str(tmp_path / "a.png"),
    )
    assert (
        re.search(r"^\| GRPO \| 0\.\d+ .*\n\| PPO \| 0\.\d+ ", said, re.M)
        and (tmp_path / "a.png").stat().st_size > 10_000
    )


def test_r1_comparison(base, tmp_path):
    """From a base that gets some sums of two digits right, or rejection sampling would have nothing to accept."""
    start = str(tmp_path / "start")
    run_sft(
        "--config",
        "recipes/configs/sft/tiny.yaml",
        "--model_name_or_path",
        base,
        "--held_out",
        "0",
        "--output_dir",
        start,
    )
    sizes = ["--completions", "128", "--seeds", "1", "--held_out", "20", "--model", start]
    argv = [*sizes, "--output_dir", str(tmp_path / "runs"), "--figure", str(tmp_path / "a.png")]
    said = benchmark("r1_comparison", *argv)
    assert said.count("\n| ") == 7 and (tmp_path / "a.png").stat().st_size > 10_000


def test_difficulty_band(base):
    few = ["--steps", "3", "--seeds", "1", "--prompts", "40", "--held_out", "20", "--sizes", "1", "--samples", "2"]
    said = benchmark("difficulty_band", *few, "--model", base)
    assert re.search(r"^\| all \| 0 \| 3 \|.*\n\| band, 0\.\d+ of them \| 80 \| 2 \|", said, re.M), said


def test_decontamination(tmp_path):
    asked = [{"question": f"How many apples are left when {n} of {n + 5} are eaten?", "answer": "5"} for n in range(20)]
    files = [tmp_path / "train.jsonl", tmp_path / "test.jsonl"]
    for file, rows in zip(files, (asked, asked[:4]), strict=True):
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = benchmark("decontamination", "--train", str(files[0]), "--against", str(files[1]), "--rows", "200")
    assert re.match(r"200 rows against 4 questions, \d+ n-grams: 40 found", said), said


def test_memory(base):
    said = benchmark("memory", "--model", base, "--only", "sft | none | full")
    assert re.search(r"1 runs: estimate / measured from \d+\.\d\d to \d+\.\d\d", said)


def test_what_fits():
    (line,) = re.findall(r"\| 0\.5B \| full \|.*", benchmark("what_fits", "--sizes", "0.5B", "--trained", "full"))
    assert line == "| 0.5B | full | 9 | 9 | 11 | 11 |"


def test_style_rewards(tmp_path):
    files = {"gsm8k": {"question": "1 + 1?", "answer": "1 + 1 = 2\n#### 2"}}
    files["math500"] = {
        "problem": "1 + 1?",
        "level": "Level 1",
        "answer": "2",
        "solution": "It is 2.",
        "subject": "Algebra",
    }
    paths = []
    for name, row in files.items():
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
        paths += [f"--{name}", str(tmp_path / f"{name}.jsonl")]
    assert benchmark("style_rewards", *paths).count("| 0 |") == 4


@pytest.mark.parametrize("part", ["math", "format", "golds", "speed", "length", "code", "programs"])
def test_rewards(part):
    assert "|" in benchmark("rewards", part, "--rounds", "1", "--cases", "12")
