"""Completions sampled, scored and kept: each pair is what its rewards say, and nothing is overwritten or left half-written."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPO, run_dpo, run_in_processes

import data
import rewards
from recipes import _measure, grpo, sample
from recipes._config import parse

KILLER = """
import os, runpy, signal, sys
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
sys.argv[0] = "recipes/sample.py"
runpy.run_module("recipes.sample", run_name="__main__")
"""


def run_sample(*argv: str) -> None:
    classes = (sample.Sampling, grpo.GRPORecipe, grpo.GRPOConfig, grpo.ModelConfig)
    sample.main(*parse(classes, list(argv), doc="", check=grpo.check))


def read(path) -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


@pytest.fixture
def arguments(base, tmp_path) -> list[str]:
    """The command line that samples four completions to each of the 68 one-digit sums."""
    return [
        *("--config", "recipes/configs/grpo/tiny.yaml", "--model_name_or_path", base, "--samples", "4"),
        *("--dataset_options", "{digits: 1}", "--max_completion_length", "24", "--output", str(tmp_path / "out.jsonl")),
    ]


def test_pairs_are_the_best_against_the_worst_and_train_dpo(base, arguments, tmp_path, capsys):
    run_sample(*arguments, "--pairs", "--json")
    result, rows = json.loads(capsys.readouterr().out), read(tmp_path / "out.jsonl")
    assert result["prompts"] == 68 and result["completions"] == 272
    assert result["pairs"] == len(rows) == 68 - result["no_contrast"] and 30 < len(rows) < 68
    assert 0 < result["accuracy"] < result["mean_reward"] < 1.2

    bare = {row["prompt"][0]["content"]: row for row in data.load("arithmetic", template=None, digits=1)}
    grade = {name: rewards.load(name) for name in ("math_answer", "think_format")}
    for row in rows:
        question = bare[row["prompt"][0]["content"]]
        assert row["prompt"] == question["prompt"] and row["answer"] == question["answer"], "columns follow their row"
        for side in ("chosen", "rejected"):
            [message] = row[side]
            right, format_ = (g(completions=[message["content"]], answer=[row["answer"]])[0] for g in grade.values())
            assert row[f"{side}_reward"] == pytest.approx(right + 0.2 * format_) and message["role"] == "assistant"
        assert row["chosen_reward"] > row["rejected_reward"]

    loaded = data.load(str(tmp_path / "out.jsonl"), template="plain")
    assert set(loaded.column_names) == {"prompt", "chosen", "rejected", "answer"}
    assert loaded[0]["prompt"] == rows[0]["prompt"][0]["content"] + "\n"
    assert loaded["chosen"] == [row["chosen"][0]["content"] for row in rows]
    run_dpo(
        *("--config", "recipes/configs/dpo/tiny.yaml", "--model_name_or_path", base, "--max_completion_length", "24"),
        *("--dataset", str(tmp_path / "out.jsonl"), "--held_out_dataset", "arithmetic", "--held_out", "20"),
        *("--per_device_train_batch_size", "16", "--max_steps", "20", "--output_dir", str(tmp_path / "run")),
    )
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["rows"] == {"rows": len(rows), "broken": 0, "equal": 0, "too_long": 0}
    assert "pair_accuracy" not in summary["after"] and summary["after"]["kl"] > 0, "arithmetic has no pairs"
    last = json.loads((tmp_path / "run" / "checkpoint-20" / "trainer_state.json").read_text())["log_history"][-2]
    assert last["rewards/accuracies"] > 0.9 and last["rewards/margins"] > 1


def test_without_pairs_every_completion_is_kept(arguments, tmp_path, capsys):
    run_sample(*arguments, "--problems", "5", "--split", "test")
    rows = read(tmp_path / "out.jsonl")
    asked = data.load("arithmetic", "test", template=None, digits=1).select(range(5))
    assert [row["prompt"] for row in rows] == [prompt for prompt in asked["prompt"] for _ in range(4)]
    assert [row["answer"] for row in rows] == [answer for answer in asked["answer"] for _ in range(4)]
    for row in rows:
        assert row["reward"] == row["rewards"]["math_answer"] + 0.2 * row["rewards"]["think_format"]
        assert row["completion"][0]["role"] == "assistant" and row["finished"] in (True, False)
    out = capsys.readouterr().out
    assert "prompts      5\n" in out and "completions  20\n" in out and "no_contrast" not in out


@pytest.mark.parametrize(
    "completions, want",
    [
        # (text, finished, reward)
        ([("a", 1, 0.0), ("b", 1, 1.0), ("c", 1, 1.0), ("d", 1, 0.0)], ("b", "a")),
        ([("a", 1, 0.2), ("b", 1, 0.2)], None),
        ([("a", 1, 1.0), ("b", 0, 0.0)], ("a", "b")),
        ([("a", 0, 1.0), ("b", 1, 0.2), ("c", 1, 0.0)], ("b", "c")),
        ([("a", 0, 1.0), ("b", 1, 0.0)], None),
        ([("", 1, 0.0), (" \n", 1, 0.0), ("a", 1, 1.0), ("b", 1, 0.2)], ("a", "b")),
        ([("", 1, 0.0), ("a", 1, 1.0)], None),
        ([("", 1, 0.0)] * 2, None),
    ],
)
def test_the_first_best_that_ended_against_the_first_worst(completions, want):
    group = [_measure.Completion(text, [], bool(finished)) for text, finished, _ in completions]
    totals = [reward for _, _, reward in completions]
    rows = sample.best_against_worst({"prompt": "p"}, {"answer": "5"}, group, totals)
    got = [(row["chosen"][0]["content"], row["rejected"][0]["content"], row["answer"]) for row in rows]
    assert got == ([] if want is None else [(*want, "5")])


def test_prompts_without_contrast_are_counted_and_no_empty_file_is_left(arguments, tmp_path, capsys):
    """Two tokens are too few for any reward: nothing earns more than anything else."""
    with pytest.raises(SystemExit) as ended:
        run_sample(*arguments, "--pairs", "--max_completion_length", "2")
    assert ended.value.code == 2 and "none of 68 prompts" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_row_keeps_its_own_columns_where_others_are_left_out(arguments, tmp_path, monkeypatch, capsys):
    """Every second row's gold is broken; nums and target belong to the prompt that they make."""
    source = [{"target": 10 + i if i % 2 else None, "nums": [5, 5, i]} for i in range(8)]
    path = tmp_path / "countdown.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in source))

    def completions(model, tokenizer, prompts, *_):
        texts = [f"<think>x</think><answer>5 + 5 + {p.split(', ')[2].split()[0]}</answer>" for p in prompts]
        return [_measure.Completion(t if i % 2 else "none", [1], True) for i, t in enumerate(texts)]

    monkeypatch.setattr(_measure, "sample", completions)
    run_sample(
        *(*arguments, "--pairs", "--dataset", str(path), "--dataset_options", "{}", "--samples", "2"),
        *("--rewards", "{countdown: 1}"),
    )
    rows = read(tmp_path / "out.jsonl")
    assert [(row["target"], row["nums"]) for row in rows] == [(10 + i, [5, 5, i]) for i in (1, 3, 5, 7)]
    assert all(row["chosen"][0]["content"].endswith(f"{row['nums'][2]}</answer>") for row in rows)
    assert "left out 4 of 8 rows" in capsys.readouterr().out
    loaded = data.load(str(tmp_path / "out.jsonl"), template="plain")
    assert set(loaded.column_names) == {"prompt", "chosen", "rejected", "target", "nums"}, "not taken for countdown"


@pytest.mark.parametrize(
    "argv, words",
    [
        (["--output", "HERE/there.jsonl"], ["there.jsonl", "already exists", "nothing is ever overwritten"]),
        (["--output", "HERE/pairs.json"], ["is no .jsonl"]),
        (["--samples", "1"], ["samples=1", "at least 2"]),
        (["--rewards", "{math_anser: 1}"], ["'math_anser'", "'math_answer'"]),
        (["--split", "tests"], ["split 'tests'", "'test'"]),
        (["--sampels", "4"], ["sampels is an unknown key", "'samples'"]),
    ],
)
def test_what_can_not_work_is_refused_before_a_model_loads(arguments, tmp_path, capsys, monkeypatch, argv, words):
    def load(*_):
        raise AssertionError("a model loads")

    monkeypatch.setattr(_measure, "load_model", load)
    (tmp_path / "there.jsonl").write_text("mine\n")
    with pytest.raises(SystemExit) as ended:
        run_sample(*arguments, "--pairs", *(a.replace("HERE", str(tmp_path)) for a in argv))
    lines = capsys.readouterr().err.strip().splitlines()
    assert ended.value.code == 2 and len(lines) == 1 and all(word in lines[0] for word in words), lines
    assert (tmp_path / "there.jsonl").read_text() == "mine\n" and len(list(tmp_path.iterdir())) == 1


def test_killed_before_the_end_it_leaves_no_output(arguments, tmp_path):
    command = [sys.executable, "-c", KILLER, *arguments, "--problems", "4"]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=120, env=os.environ)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    assert not (tmp_path / "out.jsonl").exists()
    run_sample(*arguments, "--problems", "4")
    assert len(read(tmp_path / "out.jsonl")) == 16 and len(list(tmp_path.iterdir())) == 1, "nothing is left lying about"


def test_two_processes_write_one_file(arguments, tmp_path):
    done = run_in_processes("recipes.sample", *arguments, "--problems", "7", "--json")
    result = json.loads(done.stdout)
    rows = read(tmp_path / "out.jsonl")
    assert result["completions"] == len(rows) == 28
    asked = data.load("arithmetic", template=None, digits=1).select(range(7))
    assert [row["prompt"] for row in rows] == [prompt for prompt in asked["prompt"] for _ in range(4)]
    grade = rewards.load("math_answer")
    texts = [row["completion"][0]["content"] for row in rows]
    assert grade(completions=texts, answer=[r["answer"] for r in rows]) == [r["rewards"]["math_answer"] for r in rows]
