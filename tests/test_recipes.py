"""Every recipe runs for real, on a tiny model, and is judged by numbers."""

import itertools
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from statistics import fmean

import forked
import pytest
import torch
from conftest import REPO, run_grpo, run_in_processes, run_ppo, run_sft
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from data import humaneval
from recipes import evaluate, grpo
from recipes.measuring import divergence, sampler
from recipes.measuring.metrics import pass_at
from recipes.shared import model_loading
from recipes.shared.cli import parse


def summary(folder) -> dict:
    return json.loads((Path(folder) / "summary.json").read_text())


def weights(folder, name="model.safetensors") -> dict:
    return load_file(Path(folder) / name)


def log_of(folder) -> list[dict]:
    last = max(Path(folder).glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    return json.loads((last / "trainer_state.json").read_text())["log_history"]


def evaluated(capsys, *argv) -> dict:
    classes = (evaluate.Evaluation, grpo.GRPORecipe, grpo.GRPOConfig, grpo.ModelConfig)
    capsys.readouterr()
    evaluate.main(*parse(classes, [*argv, "--json"], problems=evaluate.problems))
    return json.loads(capsys.readouterr().out)


def test_sft_from_scratch_learns(base):
    """A uniform guess over 262 tokens costs ln 262 = 5.57 a token; the base has learned most of what can be."""
    loss = summary(base)["loss"]
    assert loss["first"] > 2 and loss["last"] < 0.75
    assert math.log(262) == pytest.approx(5.57, abs=0.01)


@pytest.mark.trains
def test_sft_has_the_same_loss_for_a_seed_and_starts_where_it_should(tmp_path):
    argv = ["--config", "recipes/configs/sft/tiny-base.yaml", "--max_steps", "3", "--logging_steps", "1"]
    argv += ["--dataset_options", "{digits: 1, rows: 192}"]
    for run in ("a", "b"):
        run_sft(*argv, "--output_dir", str(tmp_path / run))
    a, b = ([row["loss"] for row in log_of(tmp_path / run) if "loss" in row] for run in ("a", "b"))
    assert a == b and len(a) == 3 and a[0] == pytest.approx(math.log(262), rel=0.03)
    assert all(torch.equal(v, weights(tmp_path / "b")[k]) for k, v in weights(tmp_path / "a").items())


@pytest.mark.trains
def test_sft_resumed_in_the_middle_ends_with_the_same_weights(tmp_path):
    argv = ["--config", "recipes/configs/sft/tiny-base.yaml", "--max_steps", "6", "--save_steps", "3"]
    argv += ["--dataset_options", "{digits: 1, rows: 384}", "--output_dir"]
    run_sft(*argv, str(tmp_path / "a"))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b" / "checkpoint-6" / "trainer_state.json").unlink()  # as if killed while it was written
    (tmp_path / "b" / "model.safetensors").unlink()
    run_sft(*argv, str(tmp_path / "b"), "--resume_from_checkpoint", "true")
    assert all(torch.equal(v, weights(tmp_path / "b")[k]) for k, v in weights(tmp_path / "a").items())
    assert summary(tmp_path / "b")["resumed_from"].endswith("checkpoint-3")


def test_sft_refuses_a_dataset_without_completions(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        run_sft(
            "--config",
            "recipes/configs/sft/tiny-base.yaml",
            "--dataset",
            "arithmetic",
            "--dataset_options",
            "{}",
            "--output_dir",
            str(tmp_path / "r"),
        )
    assert ended.value.code == 2 and "needs the column 'completion'" in capsys.readouterr().err


def test_grpo_learns(base, grpo_arguments, tmp_path, capsys):
    """Reward, accuracy and format go up; the weights move; everything is kept.

    Accuracy is measured on the problems trained on: from 68 one-digit sums nothing this small learns to add the other 13
    (`make demo` measures that, on two digits). The format carries over to them.
    """
    run_grpo(*grpo_arguments, "--max_steps", "40")
    run, shared = tmp_path / "run", ["--config", "recipes/configs/grpo/tiny.yaml", "--dataset_options", "{digits: 1}"]
    curve = summary(run)["curve"]
    assert curve["reward"]["last"] > curve["reward"]["first"] + 0.2
    assert curve["rewards/math_answer/mean"]["last"] > curve["rewards/math_answer/mean"]["first"] + 0.1
    moved = [not torch.equal(v, weights(base)[k]) for k, v in weights(run).items()]
    assert all(moved)

    shared += ["--samples", "16"]
    before, after = (evaluated(capsys, *shared, "--model_name_or_path", m) for m in (base, str(run)))
    assert after["problems"] == before["problems"] == 13
    assert after["format_rate"] > before["format_rate"] + 0.15
    shared += ["--split", "train"]
    before, after = (evaluated(capsys, *shared, "--model_name_or_path", m) for m in (base, str(run)))
    assert after["problems"] == before["problems"] == 68
    assert after["accuracy"] > before["accuracy"] + 0.15

    rollouts = [json.loads(line) for line in (run / "completions.jsonl").read_text().splitlines()]
    assert [r["step"] for r in rollouts] == [step for step in range(1, 41) for _ in range(4)]
    assert all(
        r["rewards"].keys() == {"math_answer", "think_format"} and r["prompt"].startswith("What is") for r in rollouts
    )
    assert (run / "reward_curve.png").stat().st_size > 20_000
    assert summary(run)["steps"] == 40 and summary(run)["completions"] == 40 * 64


def test_before_and_after_are_what_an_evaluation_of_base_and_result_says(base, grpo_arguments, tmp_path, capsys):
    argv = [*grpo_arguments, "--max_steps", "8", "--held_out", "13"]
    run_grpo(*argv)
    shared = ["--config", "recipes/configs/grpo/tiny.yaml", "--dataset_options", "{digits: 1}", "--samples", "1"]
    shared += ["--max_completion_length", "24"]
    for key, model in (("before", base), ("after", str(tmp_path / "run"))):
        told, evaluation = summary(tmp_path / "run")[key], evaluated(capsys, *shared, "--model_name_or_path", model)
        assert told["rows"] == evaluation["problems"] == 13
        for metric in ("accuracy", "format_rate", "mean_length"):
            assert told[metric] == pytest.approx(evaluation[metric], abs=1e-4)
    assert summary(tmp_path / "run")["after"]["kl"] > 0.05


def test_the_format_is_measured_where_it_is_not_rewarded(base, grpo_arguments, tmp_path):
    run_grpo(*grpo_arguments, "--max_steps", "1", "--held_out", "13", "--rewards", "{math_answer: 1.0}")
    assert 0 < summary(tmp_path / "run")["before"]["format_rate"] < 1


def test_an_adapter_is_no_model_to_train_from(base, grpo_arguments, tmp_path, capsys):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    with pytest.raises(SystemExit) as ended:
        run_grpo(*grpo_arguments, "--model_name_or_path", str(tmp_path / "adapter"))
    error = capsys.readouterr().err
    assert ended.value.code == 2 and "is a LoRA adapter" in error and "recipes.merge" in error


def test_kl_is_what_the_two_distributions_say(base):
    """Of one completion: the sum over its tokens, end included, of log p - log q, each by a plain softmax; not the prompt's."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    model, other = (AutoModelForCausalLM.from_pretrained(base) for _ in range(2))
    with torch.no_grad():
        other.lm_head.weight += 0.05 * torch.randn(
            other.lm_head.weight.shape, generator=torch.Generator().manual_seed(0)
        )
    prompts, completions = tokenizer(["What is 1 + 2?\n", "?"])["input_ids"], [[20, 21, 0], [22, 0]]
    expected = []
    for prompt, completion in zip(prompts, completions, strict=True):
        ids = torch.tensor([prompt + completion])
        p, q = (torch.log_softmax(m(ids).logits[0].double() / 0.7, dim=-1) for m in (model, other))
        places = [(len(prompt) + i - 1, token) for i, token in enumerate(completion)]
        expected.append(sum(float(p[place] - q[place]) for place in places))
    assert divergence.kl(model, other, prompts, completions, 0.7) == pytest.approx(sum(expected) / 2, abs=1e-4)
    assert abs(sum(expected)) > 0.01 and divergence.kl(model, model, prompts, completions, 0.7) == 0


def test_grpo_has_the_same_figures_for_a_seed(grpo_arguments, tmp_path):
    for run in ("a", "b"):
        run_grpo(*grpo_arguments, "--max_steps", "3", "--output_dir", str(tmp_path / run))
    a, b = ([(row["reward"], row["loss"]) for row in log_of(tmp_path / run) if "reward" in row] for run in ("a", "b"))
    assert a == b and len(a) == 3


def test_a_run_shorter_than_its_logging_steps_ends_well(grpo_arguments, tmp_path, capsys):
    run_grpo(*grpo_arguments, "--max_steps", "2", "--logging_steps", "5")
    reward = summary(tmp_path / "run")["curve"]["reward"]
    assert 0 < reward["first"] == reward["last"] < 1.2, "TRL logs what is left over at the end"
    assert "2 steps in" in capsys.readouterr().out and (tmp_path / "run" / "reward_curve.png").exists()


def test_a_run_without_any_signal_says_so(grpo_arguments, tmp_path, capsys):
    """Two tokens are too few for any reward: every group is all zeros, every advantage 0, and the weights stay."""
    run_grpo(*grpo_arguments, "--max_steps", "2", "--max_completion_length", "2", "--weight_decay", "0")
    assert "there was nothing to learn from" in capsys.readouterr().out
    rollouts = [json.loads(line) for line in (tmp_path / "run" / "completions.jsonl").read_text().splitlines()]
    assert {r["advantage"] for r in rollouts} == {0.0}


def test_grpo_weights_its_rewards_as_the_config_says(grpo_arguments, tmp_path):
    run_grpo(*grpo_arguments, "--max_steps", "2", "--rewards", "{think_format: 0.5, math_answer: 2}")
    for row in log_of(tmp_path / "run"):
        if "reward" in row:
            parts = 0.5 * row["rewards/think_format/mean"] + 2 * row["rewards/math_answer/mean"]
            assert row["reward"] == pytest.approx(parts, abs=1e-5)


def test_lora_trains_the_adapter_alone_and_can_be_evaluated(base, grpo_arguments, tmp_path, capsys):
    frozen = weights(base)
    run_grpo(
        *grpo_arguments,
        "--max_steps",
        "30",
        "--use_peft",
        "--lora_target_modules",
        "all-linear",
        "--learning_rate",
        "5e-3",
    )
    adapter = weights(tmp_path / "run", "adapter_model.safetensors")
    assert adapter and all("lora" in name for name in adapter) and not (tmp_path / "run" / "model.safetensors").exists()
    assert all(v.abs().sum() > 0 for name, v in adapter.items() if "lora_B" in name), "B starts at zero"
    assert all(torch.equal(v, weights(base)[k]) for k, v in frozen.items())

    shared = ["--config", "recipes/configs/grpo/tiny.yaml", "--dataset_options", "{digits: 1}", "--samples", "32"]
    before = evaluated(capsys, *shared, "--model_name_or_path", base)
    after = evaluated(capsys, *shared, "--model_name_or_path", str(tmp_path / "run"))
    assert after["rewards"]["think_format"] > before["rewards"]["think_format"] + 0.1


def test_adapters_on_a_quantised_base_take_small_steps(grpo_arguments, tmp_path):
    """TRL makes them bfloat16, where a weight of 0.01 is 6e-5 from the next one: steps of 1e-6 would leave it as it is."""
    moved = {}
    for rate in ("0.0", "1e-6"):
        run_grpo(
            *(*grpo_arguments, "--use_peft", "--lora_target_modules", "all-linear", "--load_in_4bit", "true"),
            *("--dtype", "bfloat16", "--learning_rate", rate, "--lr_scheduler_type", "constant", "--max_steps", "3"),
            *("--output_dir", str(tmp_path / rate)),
        )
        moved[rate] = weights(tmp_path / rate, "adapter_model.safetensors")
    started, stepped = moved.values()
    assert {v.dtype for v in stepped.values()} == {torch.float32}
    assert all(not torch.equal(v, started[k]) for k, v in stepped.items())


def test_evaluation_by_hand(base, capsys, monkeypatch):
    """Three problems, two samples each, right: 2, 1 and 0 of 2. pass@1 = (1 + 1/2 + 0) / 3 = 1/2; the standard error is
    that of the means 1, 1/2, 0: their standard deviation is 1/2, so 1/2 / sqrt(3) = 0.2887. One of six is cut off, and
    four of six have the format."""

    def sample(model, tokenizer, prompts, *_):
        good, bad = "<think>x</think><answer>{}</answer>", "<answer>{}</answer>"
        answers = [eval_sum(p) if right else -1 for p, right in zip(prompts, [1, 1, 1, 0, 0, 0], strict=True)]
        texts = [(good if i < 4 else bad).format(answer) for i, answer in enumerate(answers)]
        return [sampler.Completion(text, [0] * 10 * (i + 1), finished=i < 5) for i, text in enumerate(texts)]

    monkeypatch.setattr(sampler, "sample", sample)
    result = evaluated(
        capsys,
        *(
            "--config",
            "recipes/configs/grpo/tiny.yaml",
            "--dataset_options",
            "{digits: 1}",
            "--model_name_or_path",
            base,
        ),
        *("--problems", "3", "--samples", "2"),
    )
    assert result["accuracy"] == 0.5 and result["stderr"] == pytest.approx(0.5 / math.sqrt(3))
    assert result["format_rate"] == pytest.approx(4 / 6) and result["mean_length"] == 35
    assert result["truncation_rate"] == pytest.approx(1 / 6) and result["problems"] == 3
    assert result["pass_at"] == {"1": 0.5, "2": pytest.approx(2 / 3)}


@pytest.mark.parametrize("samples", [1, 2, 5, 8])
def test_pass_at_k_is_the_share_of_all_draws_that_hold_a_right_one(samples):
    """Every way to draw k of a problem's completions is tried."""
    rng = random.Random(samples)
    problems = [[rng.random() < chance for _ in range(samples)] for chance in (0, 0.1, 0.3, 0.6, 1)]
    found = pass_at([one for problem in problems for one in problem], samples)
    assert list(found) == [k for k in (1, 2, 4, 8) if k <= samples]
    for k, value in found.items():
        draws = [[any(draw) for draw in itertools.combinations(problem, k)] for problem in problems]
        assert value == pytest.approx(fmean(map(fmean, draws)))


def eval_sum(prompt: str) -> int:
    a, b = prompt.removeprefix("What is ").removesuffix("?\n").split(" + ")
    return int(a) + int(b)


def test_evaluation_counts_what_is_cut_off(base, capsys):
    result = evaluated(
        capsys,
        *(
            "--config",
            "recipes/configs/grpo/tiny.yaml",
            "--dataset_options",
            "{digits: 1}",
            "--model_name_or_path",
            base,
        ),
        *("--max_completion_length", "2", "--samples", "4"),
    )
    assert result["truncation_rate"] == 1 and result["mean_length"] == 2 and result["accuracy"] == 0


# ---- a run that is killed, and continued

KILLER = """
import os, runpy, signal, sys
from pathlib import Path
import transformers
from transformers.trainer import Trainer
from transformers.trainer_callback import TrainerState, TrainerCallback

moment, recipe = sys.argv.pop(1), sys.argv.pop(1)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def wrap(cls, name, act):
    original = getattr(cls, name)
    setattr(cls, name, lambda self, *a, **k: act(original, self, *a, **k))

def in_optimizer(original, self, folder, *a, **k):  # weights written, optimizer state in part
    if self.state.global_step == 8:
        Path(folder, "optimizer.pt").write_bytes(b"PK half of it")
        die()
    return original(self, folder, *a, **k)

def in_state(original, self, path, *a, **k):  # the last file of the checkpoint, in part
    if self.global_step == 8:
        Path(path).write_text('{"epoch": 0.1, "global_step": 8')
        die()
    return original(self, path, *a, **k)

def in_step(original, self, *a, **k):  # of the third epoch
    if self.state.global_step == 11:
        die()
    return original(self, *a, **k)

def in_last_save(original, self, folder=None, _internal_call=False):  # trained, but not yet saved whole
    if not _internal_call:
        Path(folder, "model.safetensors").write_bytes(b"half")
        die()
    return original(self, folder, _internal_call)

wrap(*{
    "step": (Trainer, "training_step", in_step),
    "optimizer": (Trainer, "_save_optimizer_and_scheduler", in_optimizer),
    "state": (TrainerState, "save_to_json", in_state),
    "last save": (Trainer, "save_model", in_last_save),
}[moment])
sys.argv[0] = f"recipes/{recipe}.py"
runpy.run_module(f"recipes.{recipe}", run_name="__main__")
"""


@pytest.fixture(scope="module")
def uninterrupted(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    for recipe in ("grpo", "ppo"):
        done = launch(recipe, base, folder / recipe)
        assert done.returncode == 0, done.stderr
    return folder


# five passes over each batch: every checkpoint is between two of them
PPO = ("--num_mini_batches", "1", "--num_ppo_epochs", "5", "--logging_steps", "1")
PPO += ("--kl_coef", "0.05", "--kl_bound", "99")


def launch(recipe, base, folder, *argv, killed_at=None):
    """A run of 12 steps, five an epoch, as a separate process; it checkpoints every 4 steps and keeps the last 2."""
    start = ["-m", f"recipes.{recipe}"] if killed_at is None else ["-c", KILLER, killed_at, recipe]
    config = ["--config", f"recipes/configs/{recipe}/tiny.yaml", *(PPO if recipe == "ppo" else ())]
    command = [sys.executable, *start, *config, "--model_name_or_path", base, "--held_out", "0"]
    command += [
        "--dataset_options",
        "{digits: 1}",
        "--per_device_train_batch_size",
        "24",
        "--num_generations",
        "2",
        "--max_completion_length",
        "24",
    ]
    command += ["--max_steps", "12", "--save_steps", "4", "--report_to", "none", "--output_dir", str(folder), *argv]
    return forked.run(command)


@pytest.mark.parametrize(
    "recipe, moment, last_whole",
    [
        *(("grpo", "step", 8), ("grpo", "optimizer", 4), ("grpo", "state", 4), ("grpo", "last save", 12)),
        *(("ppo", "step", 8), ("ppo", "optimizer", 4)),
    ],
)
def test_a_killed_run_ends_with_the_same_weights(recipe, base, uninterrupted, tmp_path, moment, last_whole):
    folder = tmp_path / "run"
    assert launch(recipe, base, folder, killed_at=moment).returncode == -signal.SIGKILL
    assert not (folder / "summary.json").exists()
    refused = launch(recipe, base, folder)
    assert refused.returncode == 2 and "--resume_from_checkpoint true" in refused.stderr

    resumed = launch(recipe, base, folder, "--resume_from_checkpoint", "true")
    assert resumed.returncode == 0, resumed.stderr
    assert f"checkpoint-{last_whole}\n" in resumed.stdout
    for where in ("", *(["checkpoint-12/value_model"] if recipe == "ppo" else [])):
        ours, expected = weights(folder / where), weights(uninterrupted / recipe / where)
        assert ours.keys() == expected.keys() and all(torch.equal(v, expected[k]) for k, v in ours.items())

    a, b = (
        [(row["step"], row["reward"]) for row in log_of(f) if "reward" in row] for f in (folder, uninterrupted / recipe)
    )
    assert a == b
    assert (folder / "completions.jsonl").read_text() == (uninterrupted / recipe / "completions.jsonl").read_text()
    assert summary(folder)["curve"] == summary(uninterrupted / recipe)["curve"]


# ---- Weights & Biases


def read_back(folder) -> list[dict]:
    """The records of an offline run, by wandb's own reader."""
    (log,) = Path(folder).glob("wandb/offline-run-*/*.wandb")
    reader = [str(Path(sys.executable).parent / "wandb"), "leet", "inspect", "--json", str(log)]
    done = subprocess.run(reader, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("key", [None, "0" * 40], ids=["no key", "a key, but no network"])
def test_wandb_goes_offline_by_itself_and_keeps_everything(base, tmp_path, key):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    environment |= {"HOME": str(tmp_path), "WANDB_BASE_URL": "http://127.0.0.1:9"} | (
        {"WANDB_API_KEY": key} if key else {}
    )
    command = [sys.executable, "-m", "recipes.grpo", "--config", "recipes/configs/grpo/tiny.yaml"]
    command += ["--model_name_or_path", base, "--dataset_options", "{digits: 1}", "--per_device_train_batch_size", "32"]
    command += ["--max_steps", "12", "--output_dir", str(tmp_path / "run")]
    done = forked.run(command, env=environment)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if "W&B" in line] == [
        "W&B: http://127.0.0.1:9 can't be reached: logging offline; "
        f"to send it later: wandb sync {tmp_path / 'run'}/wandb/offline-run-*"
    ]
    records = read_back(tmp_path / "run")
    assert key is None or key not in json.dumps(records)

    steps = [r["history"]["item"] for r in records if r["type"] == "history"]
    metrics = {k: v for row in steps for k, v in row.items()}
    for name in ("math_answer", "think_format"):
        assert {f"train/rewards/{name}/mean", f"train/rewards/{name}/std"} <= metrics.keys()
    assert {"train/reward", "train/loss", "train/completions/mean_length", "train/grad_norm"} <= metrics.keys()
    logged = [row for row in steps if "train/reward" in row]
    timed = [row for row in steps if any("profiling" in key for key in row)]
    assert timed == logged, "timings are part of their step's row"
    trained = [row for row in log_of(tmp_path / "run") if "reward" in row]
    assert [row["train/reward"] for row in logged] == pytest.approx([row["reward"] for row in trained])

    (files,) = Path(tmp_path, "run").glob("wandb/offline-run-*/files/media/table")
    tables = [json.loads(path.read_text()) for path in sorted(files.glob("*.json"))]
    assert len(tables) == 2, "what is logged 10 steps at a time, and the rest at the end"
    kept = sorted(row[0] for table in tables for row in table["data"])
    assert kept == [step for step in range(1, 13) for _ in range(4)], "every logged step stays, not only the last"
    assert tables[0]["columns"] == ["step", "prompt", "completion", "math_answer", "think_format", "advantage"]

    config = {}
    for record in records:
        config |= record.get("config", {}).get("update", {})
    assert config["recipe"]["rewards"] == {"math_answer": 1.0, "think_format": 0.2}
    assert config["model_args"]["model_name_or_path"] == base and config["max_steps"] == 12
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=REPO).stdout.strip()
    assert config["git_commit"].removesuffix("-dirty") == head


STYLE = {"language_consistency": 0.2, "repetition_penalty": 0.2, "overlong": 0.5}


@pytest.mark.parametrize("recipe", ["grpo", "ppo"])
def test_the_rewards_of_style_train_and_count_tokens_everywhere(recipe, base, tmp_path, capsys):
    """Overlong counts what was sampled, in training as in evaluation: a limit of 12 tokens makes completions shorter."""
    argv = [
        *("--config", f"recipes/configs/{recipe}/tiny.yaml", "--model_name_or_path", base, "--held_out", "0"),
        *("--dataset_options", "{digits: 1}", "--report_to", "none", "--output_dir", str(tmp_path / "run")),
        *("--rewards", json.dumps({"math_answer": 0.0} | STYLE), "--per_device_train_batch_size", "64"),
        *("--reward_options", "{overlong: {max_length: 12, cache: 6}}"),
    ]
    argv += ["--max_completion_length", "24"]
    if recipe == "grpo":
        run_grpo(*argv, "--max_steps", "30", "--save_steps", "30")
    else:
        once = ("--num_mini_batches", "1", "--num_ppo_epochs", "2", "--logging_steps", "2")
        run_ppo(*argv, "--max_steps", "60", "--save_steps", "60", *once)
    steps = [row for row in log_of(tmp_path / "run") if "reward" in row]
    lengths = [row["completions/mean_length"] for row in steps]
    assert sum(lengths[-5:]) < sum(lengths[:5]) - 5 * 4, "it learned to be short"
    for row in steps:
        assert -1 <= row["rewards/overlong/mean"] <= 0 and 0 <= row["rewards/language_consistency/mean"] <= 1
    if recipe == "grpo":
        out = tmp_path / "result.json"
        result = evaluated(capsys, *argv, "--output", str(out))
        assert result["rewards"]["overlong"] < -0.5, "most of the base's completions have more than 9 tokens"
        assert json.loads(out.read_text())["rewards"] == result["rewards"]
        with pytest.raises(SystemExit):
            evaluated(capsys, *argv, "--output", str(out))


@pytest.mark.trains
def test_from_scratch_has_figures_after_and_none_before(tmp_path):
    run_sft(
        *("--config", "recipes/configs/sft/tiny-base.yaml", "--output_dir", str(tmp_path / "run"), "--max_steps", "2"),
        *(
            "--dataset_options",
            "{rows: 200}",
            "--held_out",
            "20",
            "--held_out_dataset",
            "arithmetic",
            "--max_completion_length",
            "8",
        ),
    )
    made = summary(tmp_path / "run")
    assert made["before"] is None and made["after"]["accuracy"] == 0 and "kl" not in made["after"]


def test_the_head_gets_contiguous_input_and_says_the_same(base):
    """torch would copy the head's whole weight for each row of a slice."""
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    ids, seen = torch.arange(10, 40).reshape(3, 10), []
    with torch.no_grad():
        before = model(input_ids=ids, logits_to_keep=1).logits
        model_loading.spare_copies(model)
        model.get_output_embeddings().register_forward_hook(
            lambda _, inputs, __: seen.append(inputs[0].is_contiguous())
        )
        after = model(input_ids=ids, logits_to_keep=1).logits
    assert seen == [True] and torch.allclose(before, after, atol=1e-5)


@pytest.fixture(scope="module")
def coder(base, tmp_path_factory) -> str:
    """The base model, after some steps on three answers: a right program, a wrong one, and none at all."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base)
    prompt = humaneval.QUESTION.format(prompt="")
    bodies = ("return 1", "return 2", None)
    texts = [f"<answer>```python\ndef f():\n {b}\n```</answer>" if b else "<answer>I pass</answer>" for b in bodies]
    batch = tokenizer([f"{prompt}\n{text}{tokenizer.eos_token}" for text in texts], return_tensors="pt", padding=True)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    torch.manual_seed(0)
    for _ in range(150):
        loss = model(**batch, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    folder = str(tmp_path_factory.mktemp("coder") / "model")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("processes", [1, 2])
def test_grpo_with_the_code_reward(coder, tmp_path, processes):
    """Programs are run and paid for under one process and under two, which share the cores, and their metrics are there."""
    problems = tmp_path / "problems.jsonl"
    rows = [{"prompt": "", "canonical_solution": "", "entry_point": "f", "test": f"def check(c):\n    assert c() == {n}"}
            for n in (1, 1, 1, 1)]  # fmt: skip
    problems.write_text("".join(json.dumps(row) + "\n" for row in rows))
    argv = [
        *("--config", "recipes/configs/grpo/tiny.yaml", "--model_name_or_path", coder, "--held_out", "0"),
        *("--dataset", str(problems), "--dataset_split", "test", "--dataset_options", "{}", "--use_cpu", "true"),
        *("--rewards", "{code_tests: 1.0}", "--reward_options", "{code_tests: {binary: true}}"),
        *("--per_device_train_batch_size", str(16 // processes), "--max_completion_length", "64", "--max_steps", "3"),
        *("--report_to", "none", "--output_dir", str(tmp_path / "run"), "--logging_steps", "1", "--save_steps", "3"),
    ]
    run_in_processes("recipes.grpo", *argv, processes=processes)
    history = json.loads((tmp_path / "run" / "checkpoint-3" / "trainer_state.json").read_text())["log_history"]
    steps = [row for row in history if "reward" in row]
    assert len(steps) == 3
    for key in ("ungradable", "no_code", "timeouts", "over_limits", "all_passed", "seconds"):
        assert all(f"code_tests/{key}" in row for row in steps)
    for row in steps:
        assert row["code_tests/all_passed"] == pytest.approx(row["rewards/code_tests/mean"])
        assert row["code_tests/ungradable"] == 0
    assert any(0 < row["reward"] < 1 for row in steps)
    assert any(row["code_tests/no_code"] > 0 for row in steps)
