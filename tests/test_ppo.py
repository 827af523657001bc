"""PPO by the real trainer: it learns, from rules and from reward models, and each completion is paid for its own row."""

import json
import sys
from pathlib import Path

import forked
import pytest
import torch
from conftest import run_in_processes, run_ppo
from datasets import Dataset
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from recipes import ppo
from recipes.shared import model_loading, ppo_trainer, reward_models

SHORT = ("--per_device_train_batch_size", "32", "--max_completion_length", "24", "--dataset_options", "{digits: 1}")
SHORT += ("--num_mini_batches", "1", "--num_ppo_epochs", "2", "--logging_steps", "2", "--value_layers", "null")
LORA = ("--use_peft", "true", "--lora_r", "8", "--lora_target_modules", "all-linear", "--lora_dropout", "0")


def summary(folder) -> dict:
    return json.loads((Path(folder) / "summary.json").read_text())


def rollouts(folder) -> list[dict]:
    return [json.loads(line) for line in (Path(folder) / "completions.jsonl").read_text().splitlines()]


def log_of(checkpoint: Path) -> list[dict]:
    return json.loads((checkpoint / "trainer_state.json").read_text())["log_history"]


@pytest.fixture
def ppo_arguments(base, tmp_path) -> list[str]:
    """The command line of a PPO run of seconds: one-digit sums, 32 completions a batch, two steps on each."""
    return [
        *("--config", "recipes/configs/ppo/tiny.yaml", "--model_name_or_path", base, *SHORT),
        *("--held_out", "0", "--output_dir", str(tmp_path / "run")),
    ]


def test_ppo_learns_from_rules(ppo_arguments, base, tmp_path):
    """The reward gained 0.26 to 0.44 with five seeds."""
    run_ppo(*ppo_arguments, "--max_steps", "120", "--learning_rate", "3e-4")
    run = tmp_path / "run"
    curve = summary(run)["curve"]
    assert curve["reward"]["last"] > curve["reward"]["first"] + 0.2
    assert (summary(run)["steps"], summary(run)["completions"]) == (120, 32 * 60)
    AutoModelForCausalLM.from_pretrained(run)  # the policy alone
    assert set(load_file(run / "model.safetensors")) == set(load_file(Path(base) / "model.safetensors"))
    assert not (run / "value_model").exists() and (run / "checkpoint-120" / "value_model").is_dir()
    assert [r["step"] for r in rollouts(run)] == [step for step in range(1, 121, 2) for _ in range(4)]
    assert all(r["prompt"].startswith("What is") and "advantage" not in r for r in rollouts(run))
    assert (run / "reward_curve.png").stat().st_size > 20_000
    losses = [row["loss/value_avg"] for row in log_of(run / "checkpoint-120") if "reward" in row]
    assert sum(losses[-5:]) < sum(losses[:5]), "the value model has learned something too"


def test_rewards_under_two_processes_are_those_of_their_rows(ppo_arguments, tmp_path):
    """What was logged as right is right for the prompt that it stands beside, and the policy is saved by itself."""
    run_in_processes("recipes.ppo", *ppo_arguments, "--max_steps", "8", "--completions_to_log", "64")
    assert len(rollouts(tmp_path / "run")) == 4 * 64
    right = 0
    for row in rollouts(tmp_path / "run"):
        a, b = row["prompt"].strip().removeprefix("What is ").removesuffix("?").split(" + ")
        answered = row["completion"].endswith(f"<answer>{int(a) + int(b)}</answer>")
        assert answered == (row["rewards"]["math_answer"] == 1.0), row
        right += answered
    assert 0 < right < 4 * 64
    AutoModelForCausalLM.from_pretrained(tmp_path / "run")
    assert not any("value_model" in key for key in load_file(tmp_path / "run" / "model.safetensors"))


def test_lora_keeps_the_base_as_reference_and_saves_an_adapter(ppo_arguments, base, tmp_path):
    argv = ("--learning_rate", "5e-3", "--kl_coef", "0.01", "--max_steps", "24", "--save_steps", "24")
    run_ppo(*ppo_arguments, *LORA, *argv, "--held_out", "13")
    run = tmp_path / "run"
    assert (run / "adapter_model.safetensors").is_file() and not (run / "model.safetensors").exists()
    assert not any("value_model" in name for name in load_file(run / "adapter_model.safetensors"))
    log = [row for row in log_of(run / "checkpoint-24") if "objective/kl" in row]
    # the adapter starts as nothing: at the first step the policy is its reference
    assert log[0]["objective/kl"] == pytest.approx(0, abs=1e-4) and log[-1]["objective/kl"] > 0.05
    assert log[-1]["loss/value_avg"] < log[0]["loss/value_avg"]
    assert summary(run)["after"]["kl"] > 0.05
    kept = load_file(run / "checkpoint-24" / "value_model" / "model.safetensors")
    assert "score.weight" in kept and all("lora" in name or "score" in name for name in kept)


@pytest.mark.parametrize("level, pays", [("response", "return"), ("step", "return"), ("step", "dense")])
def test_a_reward_model_pays_its_own_return(base, ppo_arguments, tmp_path, monkeypatch, level, pays):
    """The score that the run logs for a completion is what the reward model says of its tokens, by itself; what the trainer pays
    adds up to it."""
    folder = untrained_reward_model(base, tmp_path / "rm", level)
    asked, called, earned = [], reward_models.ModelReward.__call__, []
    of_tokens = ppo_trainer.PPOTrainer._token_rewards

    def spy(self, prompts, completion_ids, **more):
        asked.extend(zip(prompts, completion_ids, strict=True))
        return called(self, prompts, completion_ids, **more)

    def paid(self, mask):
        rewards = of_tokens(self, mask)
        earned.extend(
            (row.sum().item(), (row != 0).sum().item(), int(n)) for row, n in zip(rewards, mask.sum(1), strict=True)
        )
        return rewards

    monkeypatch.setattr(reward_models.ModelReward, "__call__", spy)
    monkeypatch.setattr(ppo_trainer.PPOTrainer, "_token_rewards", paid)
    argv = ("--reward_model", folder, "--rewards", "{math_answer: 0.0}", "--max_steps", "4", "--step_rewards", pays)
    run_ppo(*ppo_arguments, *argv, "--completions_to_log", "32")
    tokenizer, kind = model_loading.load_tokenizer(base), reward_models.Kind.of(folder)
    model = reward_models.load(folder, kind, tokenizer).eval()
    for row, (prompt, completion), (total, tokens, length) in zip(
        rollouts(tmp_path / "run"), asked, earned, strict=True
    ):
        assert (row["prompt"], row["completion"]) == (prompt, tokenizer.decode(completion, skip_special_tokens=True))
        assert completion[-1] == tokenizer.eos_token_id or len(completion) == 24
        returns, _ = reward_models.score(model, kind, None, tokenizer([prompt])["input_ids"], [completion], 1)
        assert row["rewards"]["reward_model"] == pytest.approx(returns[0], abs=1e-4) == pytest.approx(total, abs=1e-3)
        assert (length, tokens) == (len(completion), len(completion) if pays == "dense" else 1)
    curve = summary(tmp_path / "run")["curve"]
    assert curve["reward"]["first"] == pytest.approx(curve["rewards/reward_model/mean"]["first"], abs=1e-3)


def untrained_reward_model(base: str, folder: Path, level: str, **config) -> str:
    """A reward model with a random head: PPO has to pay what it says, sense or not."""
    torch.manual_seed(0)
    tokenizer = model_loading.load_tokenizer(base)
    kind = reward_models.Kind(level)
    model = reward_models.load(base, kind, tokenizer)
    if config:
        model = AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(base, num_labels=1, **config))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    kind.save(str(folder))
    return str(folder)


def test_a_checkpoint_of_a_reward_model_is_of_its_run_s_kind(base, tmp_path):
    folder = Path(untrained_reward_model(base, tmp_path / "rm", "step"))
    (folder / "checkpoint-5").mkdir()
    (folder / "config.json").rename(folder / "checkpoint-5" / "config.json")
    assert reward_models.Kind.of(str(folder / "checkpoint-5")).level == "step"
    (folder / "checkpoint-5" / "config.json").rename(folder / "config.json")
    (folder / reward_models.KIND).unlink()
    with pytest.raises(ValueError, match="scores tokens, but has no"):
        reward_models.Kind.of(str(folder))


def test_accumulated_gradients_are_those_of_the_whole_batch(ppo_arguments, tmp_path):
    """A quarter of the completions at a time, added up: the same losses, the same weights, and a step a pass."""
    argv = ["--max_steps", "4", "--save_steps", "4", "--logging_steps", "1", "--kl_coef", "0.05"]
    run_ppo(*ppo_arguments[:-1], str(tmp_path / "whole"), *argv)
    in_parts = ["--per_device_train_batch_size", "8", "--gradient_accumulation_steps", "4"]
    run_ppo(*ppo_arguments[:-1], str(tmp_path / "parts"), *argv, *in_parts)
    whole, parts = (log_of(tmp_path / name / "checkpoint-4") for name in ("whole", "parts"))
    for key in ("loss", "grad_norm", "loss/policy_avg", "loss/value_avg", "objective/kl", "reward"):
        values = [[row[key] for row in log if key in row] for log in (whole, parts)]
        assert values[0] == pytest.approx(values[1], rel=1e-3, abs=1e-5) and len(values[0]) in (2, 4), key
    whole, parts = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.allclose(whole[key], parts[key], atol=2e-5) for key in whole)


def test_mini_batches_and_several_completions_a_prompt(ppo_arguments, tmp_path):
    argv = ("--num_mini_batches", "2", "--num_generations", "4", "--max_steps", "8", "--save_steps", "8")
    run_ppo(*ppo_arguments, *argv, "--logging_steps", "1", "--completions_to_log", "64")
    made = rollouts(tmp_path / "run")
    assert [row["step"] for row in made] == [1] * 64 + [5] * 64, "two passes of two steps over 64 completions"
    prompts = [row["prompt"] for row in made[:64]]
    assert all(len(set(prompts[i : i + 4])) == 1 for i in range(0, 64, 4)) and len(set(prompts)) > 8
    log = [row for row in log_of(tmp_path / "run" / "checkpoint-8") if "loss/policy_avg" in row]
    assert len(log) == 8 and all(row["clip_ratio/region_mean"] == 0 for row in (log[0], log[4]))
    assert summary(tmp_path / "run")["completions"] == 128


def test_the_value_model_has_a_rate_of_its_own(ppo_arguments, base, tmp_path):
    """At 0 it stays as it was, while the policy moves."""
    rates = ("--learning_rate", "1e-3", "--value_learning_rate", "0", "--max_steps", "4", "--save_steps", "2")
    run_ppo(*ppo_arguments, *rates)
    before, after = (load_file(tmp_path / "run" / f"checkpoint-{n}" / "value_model/model.safetensors") for n in (2, 4))
    assert all(torch.equal(before[key], after[key]) for key in before)
    before, after = load_file(Path(base) / "model.safetensors"), load_file(tmp_path / "run" / "model.safetensors")
    assert all(not torch.equal(before[key], after[key]) for key in before)


def test_the_value_model_of_a_checkpoint_starts_another_run(ppo_arguments, tmp_path):
    run_ppo(*ppo_arguments, "--max_steps", "2", "--save_steps", "2")
    kept = tmp_path / "run" / "checkpoint-2" / "value_model"
    again = [*ppo_arguments[:-1], str(tmp_path / "again"), "--max_steps", "2", "--save_steps", "2"]
    run_ppo(*again, "--value_model", str(kept), "--value_learning_rate", "0")
    before, after = (load_file(f / "model.safetensors") for f in (kept, tmp_path / "again/checkpoint-2/value_model"))
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)


def test_vllm_gets_the_policy_alone(base, tmp_path, monkeypatch):
    """What TRL sends to vLLM is every parameter of the policy's module, by its name."""
    tokenizer, kind = model_loading.load_tokenizer(base), reward_models.Kind()
    trainer = ppo_trainer.PPOTrainer(
        model=base,
        value_model=reward_models.load(base, kind, tokenizer),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=ppo_trainer.PPOConfig(str(tmp_path), use_cpu=True, bf16=False, report_to="none"),
        train_dataset=Dataset.from_dict({"prompt": ["1"]}),
        processing_class=tokenizer,
    )
    names = []
    trainer._without_value_model(lambda: names.extend(name for name, _ in trainer.model.named_parameters()))
    policy = AutoModelForCausalLM.from_pretrained(base)
    assert names == [name for name, _ in policy.named_parameters()]
    assert any(name.startswith("value_model.") for name, _ in trainer.model.named_parameters()), "it is back"


def under_zero(stage: int, *argv: str) -> None:
    command = ["-m", "accelerate.commands.launch", "--config_file", f"accelerate_configs/cpu_zero{stage}.yaml"]
    command += ["--main_process_port", "0", "-m", "recipes.ppo", *argv, "--per_device_train_batch_size", "16"]
    done = forked.run([sys.executable, *command])
    assert done.returncode == 0, done.stderr[-3000:]


def test_ppo_learns_under_zero_2(ppo_arguments, base, tmp_path):
    """From 0.58 in the first three of 30 updates to 0.87 in the last three, measured."""
    under_zero(2, *ppo_arguments, "--max_steps", "60", "--save_steps", "60")
    reward = [row["reward"] for row in log_of(tmp_path / "run" / "checkpoint-60") if "reward" in row]
    assert len(reward) == 30 and sum(reward[-5:]) / 5 > sum(reward[:5]) / 5 + 0.1
    saved, before = (load_file(Path(folder) / "model.safetensors") for folder in (tmp_path / "run", base))
    assert set(before) <= set(saved) and all(not torch.equal(before[key], saved[key]) for key in before)
    AutoModelForCausalLM.from_pretrained(tmp_path / "run")


@pytest.mark.parametrize("scored_by", ["rules", "a reward model"])
def test_ppo_under_zero_3_trains_and_saves_the_whole_policy(ppo_arguments, base, tmp_path, scored_by):
    argv = ("--reward_model", untrained_reward_model(base, tmp_path / "rm", "step")) if scored_by != "rules" else ()
    under_zero(3, *ppo_arguments, *argv, "--max_steps", "4", "--save_steps", "2", "--kl_coef", "0.05")
    for folder in (tmp_path / "run", tmp_path / "run" / "checkpoint-2"):
        saved, before = (load_file(Path(f) / "model.safetensors") for f in (folder, base))
        assert {k: v.shape for k, v in before.items()} == {k: v.shape for k, v in saved.items()}
        assert all(not torch.equal(before[key], saved[key]) for key in before)


def test_a_language_model_is_refused_as_a_reward_model(base, ppo_arguments, capsys):
    """Its score head would be random."""
    with pytest.raises(SystemExit) as ended:
        run_ppo(*ppo_arguments, "--reward_model", base)
    error = capsys.readouterr().err
    assert ended.value.code == 2 and f"reward_model={base!r} is a language model (Qwen2ForCausalLM)" in error


@pytest.mark.parametrize("key", ["reward_model", "value_model"])
def test_an_adapter_to_score_with_is_refused_under_zero_3(base, ppo_arguments, tmp_path, capsys, monkeypatch, key):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "3")
    folder = untrained_reward_model(base, tmp_path / "rm", "response")
    (tmp_path / "rm" / "adapter_config.json").write_text("{}")
    with pytest.raises(SystemExit) as ended:
        run_ppo(*ppo_arguments, f"--{key}", folder)
    error = capsys.readouterr().err
    assert ended.value.code == 2 and f"{key}={folder!r} is a LoRA adapter" in error and "zero2.yaml" in error


def test_a_value_model_of_another_size_trains(base, ppo_arguments, tmp_path):
    small = untrained_reward_model(base, tmp_path / "small", "response", hidden_size=64, intermediate_size=96)
    run_ppo(*ppo_arguments, "--value_model", small, "--max_steps", "4")
    assert summary(tmp_path / "run")["steps"] == 4


def test_a_value_model_of_fewer_layers(ppo_arguments, tmp_path):
    run_ppo(*ppo_arguments, "--value_layers", "1", "--max_steps", "2", "--save_steps", "2")
    kept = load_file(tmp_path / "run" / "checkpoint-2" / "value_model" / "model.safetensors")
    assert {name.split(".")[2] for name in kept if ".layers." in name} == {"0"} and "score.weight" in kept
    policy = load_file(tmp_path / "run" / "model.safetensors")
    assert {name.split(".")[2] for name in policy if ".layers." in name} == {"0", "1", "2"}


def test_the_run_ends_at_its_kl_bound(ppo_arguments, tmp_path, capsys):
    argv = ("--kl_coef", "0.05", "--kl_bound", "0.01", "--max_steps", "200", "--learning_rate", "2e-3")
    run_ppo(*ppo_arguments, *argv)
    assert 2 <= summary(tmp_path / "run")["steps"] < 20
    assert "is over kl_bound=0.01" in capsys.readouterr().out
    assert (tmp_path / "run" / "model.safetensors").is_file()


REFUSED = {
    "beta": ("0.1", "kl_coef"),
    "num_iterations": ("2", "num_ppo_epochs"),
    "steps_per_generation": ("1", "num_mini_batches"),
    "generation_batch_size": ("64", "num_mini_batches"),
    "loss_type": ("grpo", "the mean over a step's tokens"),
    "importance_sampling_level": ("sequence", "each token"),
    "scale_rewards": ("batch", "for groups"),
    "multi_objective_aggregation": ("normalize_then_sum", "for groups"),
    "use_liger_kernel": ("true", "knows no values"),
}


def test_every_refused_key_is_tried():
    assert REFUSED.keys() == ppo.REFUSED.keys()


@pytest.mark.parametrize(
    "argv, words",
    [
        *(([f"--{key}", value], [f"{key}=", why, f"leave {key} out"]) for key, (value, why) in REFUSED.items()),
        (["--rewards", "{}"], ["rewards is empty", "math_answer"]),
        (["--rewards", "{math_answer: 0}"], ["nothing to learn from"]),
        (["--num_generations", "5"], ["num_generations=5 does not divide the 32 completions", "that does is 4"]),
        (["--num_generations", "0"], ["num_generations=0 does not divide the 32 completions", "that does is 1"]),
        (["--per_device_train_batch_size", "128"], ["68 rows are fewer than the 128 prompts", "nothing trained"]),
        (["--per_device_train_batch_size", "1"], ["one completion is no batch", "num_mini_batches"]),
        (["--value_layers", "4"], ["value_layers=4: the value model has 3 layers"]),
        (["--kl_bound", "10"], ["kl_bound=10.0", "kl_coef is 0"]),
        (["--total_episodes", "64"], ["total_episodes is an unknown key"]),
        (["--response_length", "64"], ["response_length is an unknown key"]),
        (["--step_rewards", "sum"], ["step_rewards='sum'", "'dense'"]),
        (["--eval_strategy", "steps"], ["eval_strategy='steps'", "held_out"]),
        (["--use_vllm", "true"], ["vLLM isn't installed"]),
        (["--reward_model", "outputs/nowhere"], ["'outputs/nowhere'", "no such folder"]),
        (["--value_model", "outputs/nowhere"], ["value_model='outputs/nowhere'", "no such model"]),
    ],
)
def test_what_ppo_can_not_do_is_refused_in_one_line(ppo_arguments, tmp_path, capsys, argv, words):
    with pytest.raises(SystemExit) as ended:
        run_ppo(*ppo_arguments, *argv)
    lines = capsys.readouterr().err.strip().splitlines()
    assert ended.value.code == 2 and len(lines) == 1, lines
    assert all(word in lines[0] for word in words), lines[0]
    assert not (tmp_path / "run").exists()


def test_a_reward_model_of_another_tokenizer_is_refused(base, ppo_arguments, tmp_path, capsys):
    folder = untrained_reward_model(base, tmp_path / "rm", "response")
    other = model_loading.load_tokenizer(base)
    other.add_tokens(["<step>"])
    other.save_pretrained(folder)
    with pytest.raises(SystemExit) as ended:
        run_ppo(*ppo_arguments, "--reward_model", folder)
    error = capsys.readouterr().err
    assert ended.value.code == 2 and "another tokenizer" in error and "'<step>'" in error


def test_a_value_model_that_knows_fewer_tokens_is_refused(base, ppo_arguments, tmp_path, capsys):
    folder = untrained_reward_model(base, tmp_path / "small", "response", vocab_size=100)
    with pytest.raises(SystemExit) as ended:
        run_ppo(*ppo_arguments, "--value_model", folder)
    assert ended.value.code == 2 and "knows 100 tokens, the policy 262" in capsys.readouterr().err
