"""Completions sampled, scored and kept: each pair is what its rewards say, and nothing is overwritten or left half-written."""

import importlib
import json
import signal
import sys
from collections import Counter
from pathlib import Path
from statistics import fmean
from types import ModuleType, SimpleNamespace

import forked
import pytest
from conftest import run_dpo, run_grpo, run_in_processes, run_sft
from transformers import AutoTokenizer

import data
import rewards
from recipes import grpo, sample
from recipes.measuring import sampler
from recipes.pipeline import kept_samples
from recipes.preflight.questions import examine
from recipes.shared.cli import parse
from recipes.shared.launch import Launch

KILLER = """
import os, runpy, signal, sys
replace = os.replace
os.replace = lambda a, b: os.kill(os.getpid(), signal.SIGKILL) if str(b).endswith(".jsonl") else replace(a, b)
sys.argv[0] = "recipes/sample.py"
runpy.run_module("recipes.sample", run_name="__main__")
"""


def run_sample(*argv: str) -> None:
    classes = (sample.SampleArgs, grpo.GRPORecipe, grpo.GRPOConfig, grpo.ModelConfig)
    sample.main(*parse(classes, list(argv), problems=sample.problems))


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
    run_sample(*arguments, "--keep", "pairs", "--json")
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
    assert set(loaded.column_names) == {"prompt", "chosen", "rejected", "answer", "chosen_reward", "rejected_reward"}
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


def test_all_keeps_every_completion(arguments, tmp_path, capsys):
    run_sample(*arguments, "--keep", "all", "--problems", "5", "--split", "test")
    rows = read(tmp_path / "out.jsonl")
    asked = data.load("arithmetic", "test", template=None, digits=1).select(range(5))
    assert [row["prompt"] for row in rows] == [prompt for prompt in asked["prompt"] for _ in range(4)]
    assert [row["answer"] for row in rows] == [answer for answer in asked["answer"] for _ in range(4)]
    for row in rows:
        assert row["reward"] == row["rewards"]["math_answer"] + 0.2 * row["rewards"]["think_format"]
        assert row["completion"][0]["role"] == "assistant" and row["finished"] in (True, False)
    out = capsys.readouterr().out
    assert "prompts      5\n" in out and "completions  20\n" in out and "no_contrast" not in out


def test_the_band_keeps_prompts_that_are_solved_now_and_then(base, arguments, tmp_path, capsys):
    """Their rates are those of the completions; without a band of one's own, never and always are left out."""
    run_sample(*arguments, "--keep", "band", "--json")
    result, rows = json.loads(capsys.readouterr().out), read(tmp_path / "out.jsonl")
    solved = [result["solved"][f"{n} of 4"] for n in range(5)]
    assert (
        sum(solved) == 68
        and result["kept"] == len(rows) == 68 - solved[0] - solved[4]
        and min(solved[0], len(rows)) > 3
    )
    assert Counter(row["pass_rate"] for row in rows) == {n / 4: solved[n] for n in (1, 2, 3) if solved[n]}
    assert result["accuracy"] == pytest.approx(sum(n * solved[n] for n in range(5)) / 272)
    kept = [row["pass_rate"] for row in rows]
    assert result["useful_groups"]["after"] == pytest.approx(fmean(1 - p**8 - (1 - p) ** 8 for p in kept), abs=1e-4)
    assert result["useful_groups"]["after"] > result["useful_groups"]["before"]
    gold = {row["prompt"][0]["content"]: row["answer"] for row in data.load("arithmetic", template=None, digits=1)}
    assert all(gold[row["prompt"][0]["content"]] == row["answer"] and row["samples"] == 4 for row in rows)

    every = str(tmp_path / "every.jsonl")
    run_sample(*arguments, "--keep", "band", "--band", "[0, 1]", "--output", every)
    assert (
        len(read(every)) == 68
        and "0.4 to 0.5" in (out := capsys.readouterr().out)
        and "groups of 8 with an advantage" in out
    )
    chosen = data.load(every, template="plain", pass_rate=[0.2, 0.8])
    assert sorted(chosen["pass_rate"]) == sorted(kept), "the same seed samples the same"
    few = ["--dataset", every, "--dataset_options", "{pass_rate: [0.2, 0.8]}", "--per_device_train_batch_size", "16"]
    keys = ["--config", "recipes/configs/grpo/tiny.yaml", "--model_name_or_path", base, "--held_out", "0"]
    run_grpo(*keys, *few, "--max_completion_length", "24", "--max_steps", "1", "--output_dir", str(tmp_path / "run"))
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["rows"]["rows"] == len(chosen)

    for options, status, share in (("{}", "pass", "before"), ("{pass_rate: [0.2, 0.8]}", "pass", "after")):
        argv = [*keys, "--dataset", every, "--dataset_options", options]
        said = {what: (s, text) for s, what, text in examine("grpo", argv, Launch()).lines}["groups"]
        assert said[0] == status and said[1].startswith(f"{result['useful_groups'][share]:.0%} of groups of 8")


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
    group = [{"text": text, "finished": bool(done), "reward": reward} for text, done, reward in completions]
    rows = kept_samples.best_against_worst({"prompt": "p"}, {"answer": "5"}, group)
    got = [(row["chosen"][0]["content"], row["rejected"][0]["content"], row["answer"]) for row in rows]
    assert got == ([] if want is None else [(*want, "5")])


def test_prompts_without_contrast_are_an_error_and_no_empty_file(arguments, tmp_path, capsys):
    """Two tokens are too few for any reward: nothing earns more than anything else."""
    with pytest.raises(SystemExit) as ended:
        run_sample(*arguments, "--keep", "pairs", "--max_completion_length", "2")
    assert ended.value.code == 2 and "none of 68 prompts" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["out.part"]


def test_a_row_keeps_its_own_columns_where_others_are_left_out(arguments, tmp_path, monkeypatch, capsys):
    """Every second row's gold is broken; nums and target belong to the prompt that they make."""
    source = [{"target": 10 + i if i % 2 else None, "nums": [5, 5, i]} for i in range(8)]
    path = tmp_path / "countdown.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in source))

    def completions(model, tokenizer, prompts, *_):
        texts = [f"<think>x</think><answer>5 + 5 + {p.split(', ')[2].split()[0]}</answer>" for p in prompts]
        return [sampler.Completion(t if i % 2 else "none", [1], True) for i, t in enumerate(texts)]

    monkeypatch.setattr(sampler, "sample", completions)
    run_sample(
        *(*arguments, "--keep", "pairs", "--dataset", str(path), "--dataset_options", "{}", "--samples", "2"),
        *("--rewards", "{countdown: 1}"),
    )
    rows = read(tmp_path / "out.jsonl")
    assert [(row["target"], row["nums"]) for row in rows] == [(10 + i, [5, 5, i]) for i in (1, 3, 5, 7)]
    assert all(row["chosen"][0]["content"].endswith(f"{row['nums'][2]}</answer>") for row in rows)
    assert "left out 4 of 8 rows" in capsys.readouterr().out
    loaded = data.load(str(tmp_path / "out.jsonl"), template="plain")
    pairs = {"prompt", "chosen", "rejected", "chosen_reward", "rejected_reward"}
    assert set(loaded.column_names) == pairs | {"target", "nums"}, "not taken for countdown"


GOOD = {"math_answer": 1.0, "think_format": 1.0, "language_consistency": 1.0, "repetition_penalty": 0.0}


@pytest.mark.parametrize(
    "group, want, why",
    [
        # (text, what differs from a good one): which are kept, and the reasons against the others
        ([("a", {}), ("b", {}), ("c", {})], "ab", ["over most"]),
        ([("a", {}), ("a\n", {}), ("b", {})], "ab", ["repeated"]),
        ([("a", {"finished": False}), ("b", {})], "b", ["unfinished"]),
        ([("a", {"math_answer": 0.0, "think_format": 0.0})], "", ["math_answer"]),
        ([("a", {"think_format": 0.0})], "", ["think_format"]),
        ([("a", {"language_consistency": 0.89}), ("b", {"language_consistency": 0.9})], "b", ["language_consistency"]),
        ([("a", {"repetition_penalty": -0.31}), ("b", {"repetition_penalty": -0.3})], "b", ["repetition_penalty"]),
        ([("a", {"math_answer": 0.99})], "", ["math_answer"]),
        ([("a", {"math_answer": None}), ("b", {"math_answer": None, "right": True})], "b", ["math_answer"]),
    ],
)
def test_accepted_are_right_well_formed_in_one_language_without_repetition_and_few(group, want, why):
    ones = [
        {"text": text, "finished": True, "rewards": {k: but.get(k, v) for k, v in GOOD.items()}}
        | {k: v for k, v in but.items() if k in ("finished", "right")}
        for text, but in group
    ]
    thresholds = sample.SampleArgs(output="x").thresholds({"math_answer": 1.0})
    kept, reasons = kept_samples.accepted(ones, thresholds, most=2)
    assert "".join(one["text"] for one in kept) == want and reasons == why


def completions_of(texts: dict[str, str]):
    """In the place of sampling: a text for each prompt that holds the key."""

    def sampled(_model, _tokenizer, prompts, *_):
        return [sampler.Completion(next(t for key, t in texts.items() if key in p), [1] * 9, True) for p in prompts]

    return sampled


def test_rejection_sampling_refuses_what_the_rewards_pay_for_but_nobody_should_imitate(
    arguments, tmp_path, monkeypatch, capsys
):
    """All four answers are right and well-formed; one thinks in Chinese, one goes round in circles."""
    source = [{"question": f"question {n}", "answer": "#### 5"} for n in range(4)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in source))
    thoughts = {
        "question 0": "two and three make five",
        "question 1": "二加三等于五",
        "question 2": "I should add the numbers again. " * 20,
        "question 3": "2+3=5",
    }
    texts = {key: f"<think>{thought}</think><answer>5</answer>" for key, thought in thoughts.items()}
    monkeypatch.setattr(sampler, "sample", completions_of(texts))
    argv = [*arguments, "--dataset", str(tmp_path / "q.jsonl"), "--dataset_options", "{}", "--samples", "2", "--json"]
    run_sample(*argv)
    result, rows = json.loads(capsys.readouterr().out), read(tmp_path / "out.jsonl")
    assert [row["completion"][0]["content"] for row in rows] == [texts["question 0"], texts["question 3"]]
    assert result["accuracy"] == result["format_rate"] == 1.0
    assert result["accepted"] == 2 and result["yield"] == 2 / 8
    assert result["refused"] == {"language_consistency": 2, "repetition_penalty": 2, "repeated": 2}
    kept = json.loads((tmp_path / "out.summary.json").read_text())
    assert kept["yield"] == result["yield"] and kept["engine"] == "transformers" and "git_commit" in kept
    assert set(data.load(str(tmp_path / "out.jsonl"), template="plain").column_names) == {
        "prompt",
        "completion",
        "answer",
        "reward",
        "rewards",
        "finished",
    }

    capsys.readouterr()
    chinese = '{"language_consistency": {"language": "zh"}}'
    run_sample(*argv, "--output", str(tmp_path / "zh.jsonl"), "--reward_options", chinese)
    assert [row["completion"][0]["content"] for row in read(tmp_path / "zh.jsonl")] == [
        texts["question 1"],
        texts["question 3"],
    ]
    run_sample(*argv, "--output", str(tmp_path / "any.jsonl"), "--accept", "{math_answer: 1}", "--most", "1")
    assert len(read(tmp_path / "any.jsonl")) == 4


def test_nothing_accepted_is_an_error_that_says_why(arguments, tmp_path, capsys, monkeypatch):
    argv = [*arguments, "--problems", "8"]
    with pytest.raises(SystemExit) as ended:
        run_sample(*argv, "--accept", "{repetition_penalty: 0.5}")
    error = capsys.readouterr().err
    assert ended.value.code == 2 and "none of 32 completions is accepted (" in error and "repetition_penalty)" in error
    assert [p.name for p in tmp_path.iterdir()] == ["out.part"], "what was sampled is kept"
    monkeypatch.setattr(sampler, "load_model", lambda *_: pytest.fail("a model loads"))
    run_sample(*argv, "--accept", "{repetition_penalty: -1.0}", "--most", "2")
    assert 8 <= len(read(tmp_path / "out.jsonl")) <= 16, "for other thresholds nothing is sampled again"


def test_accepting_whatever_was_paid_still_wants_an_end_and_no_twins(arguments, tmp_path, monkeypatch):
    ends = {"0": True, "1": False, "2": True, "3": True}
    monkeypatch.setattr(
        sampler,
        "sample",
        lambda *a: [sampler.Completion("5", [1], ends[str(i % 4)]) for i in range(len(a[2]))],
    )
    run_sample(*arguments, "--problems", "1", "--accept", "{}")
    assert len(read(tmp_path / "out.jsonl")) == 1


def test_accepted_traces_are_right_distinct_and_train_sft(base, arguments, tmp_path, capsys):
    run_sample(*arguments, "--most", "1", "--json")
    result, rows = json.loads(capsys.readouterr().out), read(tmp_path / "out.jsonl")
    texts, golds = [row["completion"][0]["content"] for row in rows], [row["answer"] for row in rows]
    assert set(rewards.load("math_answer")(texts, answer=golds)) == {1.0} == set(rewards.load("think_format")(texts))
    assert len({row["prompt"][0]["content"] for row in rows}) == len(rows) == result["accepted"] > 30
    assert result["yield"] == pytest.approx(len(rows) / 272) and sum(result["refused"].values()) == 272 - len(rows)
    run_sft(
        *("--config", "recipes/configs/sft/tiny.yaml", "--model_name_or_path", base, "--held_out", "200"),
        *("--dataset", str(tmp_path / "out.jsonl"), "--num_train_epochs", "4", "--output_dir", str(tmp_path / "run")),
        *("--per_device_train_batch_size", "8", "--max_completion_length", "24"),
    )
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["rows"] == {"rows": len(rows), "broken": 0, "too_long": 0}
    assert summary["after"]["format_rate"] > summary["before"]["format_rate"] + 0.2, "what was selected is learned"


@pytest.mark.parametrize(
    "argv, words",
    [
        (["--output", "HERE/there.jsonl"], ["there.jsonl", "already exists", "nothing is ever overwritten"]),
        (["--output", "HERE/pairs.json"], ["isn't a .jsonl"]),
        (["--keep", "band", "--samples", "1"], ["samples=1", "at least 2"]),
        (["--keep", "band", "--band", "[0.5]"], ["must be two numbers"]),
        (["--band", "[0.1, 0.9]"], ["band=[0.1, 0.9]", "keep=pairs"]),
        (["--keep", "band", "--temperature", "0", "--samples", "null"], ["temperature=0 with keep=band"]),
        (["--samples", "1"], ["samples=1", "at least 2"]),
        (["--most", "0"], ["most=0", "at least 1"]),
        (["--keep", "best"], ["keep='best'"]),
        (["--accept", "{math_anser: 1}", "--keep", "accepted"], ["'math_anser'", "'math_answer'"]),
        (["--reward_options", "{overlong: {cache: 3}}"], ["reward_options", "'overlong'"]),
        (["--rewards", "{math_anser: 1}"], ["'math_anser'", "'math_answer'"]),
        (["--split", "tests"], ["split 'tests'", "'test'"]),
        (["--sampels", "4"], ["sampels is an unknown key", "'samples'"]),
    ],
)
def test_what_can_not_work_is_refused_before_a_model_loads(arguments, tmp_path, capsys, monkeypatch, argv, words):
    def load(*_):
        raise AssertionError("a model loads")

    monkeypatch.setattr(sampler, "load_model", load)
    (tmp_path / "there.jsonl").write_text("mine\n")
    with pytest.raises(SystemExit) as ended:
        run_sample(*arguments, "--keep", "pairs", *(a.replace("HERE", str(tmp_path)) for a in argv))
    lines = capsys.readouterr().err.strip().splitlines()
    assert ended.value.code == 2 and len(lines) == 1 and all(word in lines[0] for word in words), lines
    assert (tmp_path / "there.jsonl").read_text() == "mine\n" and len(list(tmp_path.iterdir())) == 1


KILLER_AT = """
import os, runpy, signal, sys
from recipes.measuring import sampler
sample, batches = sampler.sample, []
def killing(*arguments):
    if len(batches) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    batches.append(1)
    return sample(*arguments)
sampler.sample = killing
sys.argv[0] = "recipes/sample.py"
runpy.run_module("recipes.sample", run_name="__main__")
"""


@pytest.mark.parametrize("torn", [False, True])
def test_killed_it_goes_on_from_its_last_batch_and_ends_with_the_same_rows(
    arguments, tmp_path, capsys, monkeypatch, torn
):
    argv = [*arguments, "--keep", "all", "--problems", "10", "--batch_size", "8"]
    run_sample(*argv, "--output", str(tmp_path / "whole.jsonl"))
    command = [sys.executable, "-c", KILLER_AT, *argv]
    done = forked.run(command)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    part = tmp_path / "out.part"
    assert not (tmp_path / "out.jsonl").exists() and len(part.read_text().splitlines()) == 1 + 4
    if torn:
        part.write_text(part.read_text()[:-20])  # killed while it wrote the fourth prompt
    capsys.readouterr()
    calls, sampled = [], sampler.sample
    monkeypatch.setattr(sampler, "sample", lambda *a: calls.append(len(a[2])) or sampled(*a))
    run_sample(*argv)
    assert f"{2 if torn else 4} prompts are sampled" in capsys.readouterr().out
    assert sum(calls) == 4 * (8 if torn else 6), "no whole batch is sampled again"
    assert read(tmp_path / "out.jsonl") == read(tmp_path / "whole.jsonl")
    assert not part.exists()


def test_a_part_of_another_engine_is_not_gone_on_with(arguments, tmp_path, capsys, monkeypatch):
    """Half of the rows would be sampled otherwise than the summary says."""
    run_sample(*arguments, "--problems", "2", "--keep", "all", "--output", str(tmp_path / "whole.jsonl"))
    command = [sys.executable, "-c", KILLER, *arguments, "--problems", "2"]
    forked.run(command)
    monkeypatch.setattr(sampler, "engine_for", lambda *_: "vllm")
    with pytest.raises(SystemExit) as ended:
        run_sample(*arguments, "--problems", "2")
    assert ended.value.code == 2 and "engine was 'transformers', is 'vllm'" in capsys.readouterr().err


def test_a_part_of_another_run_is_not_gone_on_with(arguments, tmp_path, capsys):
    part = tmp_path / "out.part"
    part.write_text('{"settings": {"samples": 3}}\n')
    with pytest.raises(SystemExit) as ended:
        run_sample(*arguments)
    error = capsys.readouterr().err
    assert ended.value.code == 2 and "out.part is of another run" in error and part.exists()


def test_killed_in_its_last_writing_it_leaves_no_output_and_samples_nothing_again(arguments, tmp_path, monkeypatch):
    argv = [*arguments, "--keep", "all", "--problems", "4"]
    command = [sys.executable, "-c", KILLER, *argv]
    done = forked.run(command)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    assert not (tmp_path / "out.jsonl").exists() and (tmp_path / "out.part").exists()
    monkeypatch.setattr(sampler, "load_model", lambda *_: pytest.fail("a model loads"))
    run_sample(*argv)
    assert len(read(tmp_path / "out.jsonl")) == 16
    assert {p.name for p in tmp_path.iterdir()} == {"out.jsonl", "out.summary.json"}, "nothing else is left lying about"


def test_two_processes_write_one_file(arguments, tmp_path):
    done = run_in_processes("recipes.sample", *arguments, "--keep", "all", "--problems", "7", "--json")
    result = json.loads(done.stdout)
    rows = read(tmp_path / "out.jsonl")
    assert result["completions"] == len(rows) == 28
    asked = data.load("arithmetic", template=None, digits=1).select(range(7))
    assert [row["prompt"] for row in rows] == [prompt for prompt in asked["prompt"] for _ in range(4)]
    grade = rewards.load("math_answer")
    texts = [row["completion"][0]["content"] for row in rows]
    assert grade(completions=texts, answer=[r["answer"] for r in rows]) == [r["rewards"]["math_answer"] for r in rows]


@pytest.fixture
def vllm_engine(monkeypatch):
    """recipes.measuring.vllm_sampler over a stand-in for the package, which keeps what it is asked and answers with three tokens."""
    asked, answers = [], [([5, 6], "stop"), ([5, 6, 7], "length")]

    class SamplingParams(SimpleNamespace):
        def clone(self):
            return SamplingParams(**vars(self))

    class LLM(SimpleNamespace):
        def generate(self, prompts, each, **rest):
            asked.append((prompts, each, rest))
            end = each[0].stop_token_ids[0]
            one = [SimpleNamespace(token_ids=ids, finish_reason=why, stop_reason=end) for ids, why in answers]
            return [SimpleNamespace(outputs=[one[i % 2]]) for i in range(len(prompts))]

    vllm, request = ModuleType("vllm"), ModuleType("vllm.lora.request")
    vllm.LLM, vllm.SamplingParams, request.LoRARequest = LLM, SamplingParams, lambda *values: values
    for name, module in {"vllm": vllm, "vllm.lora": ModuleType("vllm.lora"), "vllm.lora.request": request}.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "recipes.measuring.vllm_sampler", raising=False)
    yield importlib.import_module("recipes.measuring.vllm_sampler"), asked
    sys.modules.pop("recipes.measuring.vllm_sampler", None)


def test_vllm_is_asked_for_the_same_sampling_and_read_in_the_same_way(vllm_engine, base):
    """Without a GPU this is the form of the calls, no more."""
    module, asked = vllm_engine
    tokenizer = AutoTokenizer.from_pretrained(base)
    training_args = grpo.GRPOConfig(output_dir="unused", use_cpu=True, bf16=False, seed=7)
    engine = module.load_model(grpo.ModelConfig(model_name_or_path=base), training_args)
    assert engine.llm.model == base and engine.lora is None
    done = module.sample(engine, tokenizer, ["1 + 1", "1 + 1"], sampler.generation_config(16, 0.7, top_p=0.9), 64, 3)
    [(prompts, each, rest)] = asked
    assert prompts == [{"prompt_token_ids": tokenizer("1 + 1")["input_ids"]}] * 2 and rest["lora_request"] is None
    first, second = each
    assert (first.max_tokens, first.temperature, first.top_p, first.top_k) == (16, 0.7, 0.9, -1)
    assert first.stop_token_ids == [tokenizer.eos_token_id] and first.seed != second.seed, (
        "equal prompts, other samples"
    )
    assert done[0].finished and done[0].ids == [5, 6, tokenizer.eos_token_id]
    assert not done[1].finished and done[1].ids == [5, 6, 7] and done[1].text == tokenizer.decode([5, 6, 7])
