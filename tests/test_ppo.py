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
from torch.utils.data import DataLoader
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from recipes.shared import model_loading, ppo_trainer, reward_models

TINY = "recipes/configs/sft/tiny-base"
SHORT = ("--per_device_train_batch_size", "32", "--response_length", "24", "--dataset_options", "{digits: 1}")


def summary(folder) -> dict:
    return json.loads((Path(folder) / "summary.json").read_text())


@pytest.fixture
def ppo_arguments(base, tmp_path) -> list[str]:
    """The command line of a PPO run of seconds: one-digit sums, 32 completions a step."""
    return [
        *("--config", "recipes/configs/ppo/tiny.yaml", "--model_name_or_path", base, *SHORT),
        *("--held_out", "0", "--output_dir", str(tmp_path / "run")),
    ]


@pytest.fixture(scope="module")
def tokenizer():
    return model_loading.load_tokenizer(TINY)


def echo(completions, *, answer, **_):
    """1.0 where the completion is the row's own answer, whatever it says: any mix-up of rows scores less."""
    return [float(c == a) for c, a in zip(completions, answer, strict=True)]


def asked(tokenizer, prompts, completions, width):
    """What PPOTrainer hands to a reward model: padded on both sides, padding as token 0, and the mask."""
    pad = tokenizer.pad_token_id
    rows = []
    for prompt, completion in zip(prompts, completions, strict=True):
        response = tokenizer(completion)["input_ids"] + [tokenizer.eos_token_id]
        rows.append(prompt.tolist() + (response + [pad] * width)[:width])
    ids = torch.tensor(rows)
    return {"input_ids": torch.where(ids == pad, 0, ids), "attention_mask": ids != pad}


def test_each_completion_is_scored_with_its_own_row(tokenizer):
    """Prompts of many lengths, the same prompt with three different answers, shuffled batches, micro-batches, two epochs,
    and a loader that fetches ahead, as accelerate's does."""
    texts = ["2+2", "2+2", "2+2", "10+10", "5+55+555", "1+1+1+1+1+1", "7", "8+8"]
    columns = {"answer": [f"answer {i}" for i in range(len(texts))], "prompts": texts}
    ids = tokenizer(texts)["input_ids"]
    rows = Dataset.from_dict({"input_ids": ids, "row": range(len(ids))})
    loader = DataLoader(rows.to_list(), batch_size=4, shuffle=True, collate_fn=ppo_trainer.PromptCollator(tokenizer))
    scorer = ppo_trainer.Scorer(columns, tokenizer, {"echo": echo, "wrong": echo}, {"echo": 1.0, "wrong": 0.5})
    scorer.batches = ppo_trainer.Batches(Ahead(loader))
    seen = []
    for _ in range(2):
        for batch in scorer.batches:
            for start in (0, 3):  # micro-batches of 3 and 1
                part = slice(start, start + 3)
                mine = [columns["answer"][i] for i in batch["row"][part]]
                mine[0] = mine[0] if start == 0 else "someone else's"
                tokens = asked(tokenizer, batch["input_ids"][part], mine, width=20)
                hidden = scorer.backbone(**tokens, position_ids=None).hidden_states[-1]
                assert hidden.shape == (*tokens["input_ids"].shape, 1)
                scores = scorer.score(hidden)[:, -1, 0].tolist()
                assert scores == ([1.5] * 3 if start == 0 else [0.0])
            seen += batch["row"].tolist()
            assert scorer.logs["echo"] == [1.0, 1.0, 1.0, 0.0] and scorer.logs["reward"] == [1.5, 1.5, 1.5, 0.0]
            assert scorer.logs["prompt"] == [texts[i] for i in batch["row"]]
    assert sorted(seen) == sorted([*range(8)] * 2) and seen[:8] != seen[8:]


class Ahead:
    """A loader that has always fetched one batch more than it gave."""

    def __init__(self, loader):
        self.loader = loader

    def __iter__(self):
        source = iter(self.loader)
        ahead = next(source)
        for following in source:
            yield ahead
            ahead = following
        yield ahead


def test_other_prompts_than_the_batch_s_are_an_error_and_never_a_score(tokenizer):
    scorer = ppo_trainer.Scorer({"answer": ["a", "b"], "prompts": ["a", "b"]}, tokenizer, {"echo": echo}, {"echo": 1.0})
    batch = ppo_trainer.PromptCollator(tokenizer)([{"input_ids": [40, 41], "row": 0}, {"input_ids": [42], "row": 1}])
    scorer.batches = ppo_trainer.Batches([batch])
    next(iter(scorer.batches))
    with pytest.raises(RuntimeError, match="other prompts"):
        scorer.scores(**asked(tokenizer, batch["input_ids"].flip(0), ["a", "b"], width=8))


def test_what_follows_a_sampled_pad_token_is_not_read(tokenizer):
    scorer = ppo_trainer.Scorer({"answer": ["a"], "prompts": ["a"]}, tokenizer, {"echo": echo}, {"echo": 1.0})
    batch = ppo_trainer.PromptCollator(tokenizer)([{"input_ids": [40, 41], "row": 0}])
    scorer.batches = ppo_trainer.Batches([batch])
    next(iter(scorer.batches))
    a, b = (tokenizer(x)["input_ids"][0] for x in "ab")
    ids = torch.tensor([[40, 41, a, 0, b]])
    mask = torch.tensor([[True, True, True, False, True]])
    assert scorer.scores(ids, mask).tolist() == [1.0] and scorer.logs["completion"] == ["a"]


def test_ppo_learns_from_rules(ppo_arguments, base, tmp_path):
    """The reward gained 0.26 to 0.43 with five seeds."""
    run_ppo(*ppo_arguments, "--total_episodes", str(32 * 60), "--learning_rate", "3e-4")
    run = tmp_path / "run"
    curve = summary(run)["curve"]
    assert curve["reward"]["last"] > curve["reward"]["first"] + 0.2
    assert summary(run)["completions"] == 32 * 60
    AutoModelForCausalLM.from_pretrained(run)  # the policy alone
    assert set(load_file(run / "model.safetensors")) == set(load_file(Path(base) / "model.safetensors"))
    rollouts = [json.loads(line) for line in (run / "completions.jsonl").read_text().splitlines()]
    assert [r["step"] for r in rollouts] == [step for step in range(1, 61) for _ in range(4)]
    assert all(r["prompt"].startswith("What is") and "advantage" not in r for r in rollouts)
    assert (run / "reward_curve.png").stat().st_size > 20_000


def test_rewards_under_two_processes_are_those_of_their_rows(ppo_arguments, tmp_path):
    """What was logged as right is right for the prompt that it stands beside, and the policy is saved by itself."""
    argv = [*ppo_arguments, "--total_episodes", "256", "--completions_to_log", "32"]
    run_in_processes("recipes.ppo", *argv)
    rollouts = [json.loads(line) for line in (tmp_path / "run" / "completions.jsonl").read_text().splitlines()]
    assert len(rollouts) == 4 * 32
    right = 0
    for row in rollouts:
        a, b = row["prompt"].strip().removeprefix("What is ").removesuffix("?").split(" + ")
        answered = row["completion"].endswith(f"<answer>{int(a) + int(b)}</answer>")
        assert answered == (row["rewards"]["math_answer"] == 1.0), row
        right += answered
    assert 0 < right < len(rollouts)
    AutoModelForCausalLM.from_pretrained(tmp_path / "run")
    assert not any(key.startswith("policy.") for key in load_file(tmp_path / "run" / "model.safetensors"))


def test_lora_keeps_the_base_as_reference_and_saves_an_adapter(ppo_arguments, base, tmp_path):
    lora = ("--use_peft", "true", "--lora_r", "8", "--lora_target_modules", "all-linear", "--learning_rate", "5e-3")
    run_ppo(*ppo_arguments, *lora, "--total_episodes", str(32 * 12), "--held_out", "13", "--save_steps", "12")
    run = tmp_path / "run"
    assert (run / "adapter_model.safetensors").is_file() and not (run / "model.safetensors").exists()
    log = json.loads((run / "checkpoint-12" / "trainer_state.json").read_text())["log_history"]
    # the adapter starts as nothing: at the first step the policy is its reference
    assert log[0]["objective/kl"] == pytest.approx(0, abs=1e-4) and log[-1]["objective/kl"] > 0.05
    assert log[-1]["loss/value_avg"] < log[0]["loss/value_avg"]
    assert summary(run)["after"]["kl"] > 0.05


def test_two_processes_with_lora(ppo_arguments, tmp_path):
    """TRL reads the policy through the data-parallel wrapper, which hides it."""
    lora = ("--use_peft", "true", "--lora_r", "8", "--lora_target_modules", "all-linear")
    run_in_processes("recipes.ppo", *ppo_arguments, *lora, "--total_episodes", "64")
    assert (tmp_path / "run" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize("level", ["response", "step"])
def test_a_reward_model_pays_its_own_return(base, ppo_arguments, tmp_path, monkeypatch, level):
    """The score that the run logs for a completion is what the reward model says of its tokens, by itself."""
    folder = untrained_reward_model(base, tmp_path / "rm", level)
    asked, forward = [], ppo_trainer.ModelReward.forward

    def spy(self, prompts, completions):
        asked.extend(zip(prompts, completions, strict=True))
        return forward(self, prompts, completions)

    monkeypatch.setattr(ppo_trainer.ModelReward, "forward", spy)
    argv = ("--reward_model", folder, "--rewards", "{math_answer: 0.0}", "--total_episodes", "64")
    run_ppo(*ppo_arguments, *argv, "--completions_to_log", "32", "--local_rollout_forward_batch_size", "12")
    tokenizer, kind = model_loading.load_tokenizer(base), reward_models.Kind.of(folder)
    model = reward_models.load(folder, kind, tokenizer).eval()
    lines = (tmp_path / "run" / "completions.jsonl").read_text().splitlines()
    for line, (prompt, completion) in zip(lines, asked, strict=True):
        row = json.loads(line)
        assert (row["prompt"], row["completion"]) == (
            tokenizer.decode(prompt),
            tokenizer.decode(completion, skip_special_tokens=True),
        )
        assert completion[-1] == tokenizer.eos_token_id or len(completion) == 24
        returns, _ = reward_models.score(model, kind, None, [prompt], [completion], 1)
        assert row["rewards"]["reward_model"] == pytest.approx(returns[0], abs=1e-4)
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


def under_zero(stage: int, *argv: str) -> None:
    command = ["-m", "accelerate.commands.launch", "--config_file", f"accelerate_configs/cpu_zero{stage}.yaml"]
    command += ["--main_process_port", "0", "-m", "recipes.ppo", *argv, "--per_device_train_batch_size", "16"]
    done = forked.run([sys.executable, *command])
    assert done.returncode == 0, done.stderr[-3000:]


def test_ppo_learns_under_zero_2(ppo_arguments, base, tmp_path):
    """From 0.58 in the first three of 30 updates to 0.87 in the last three, measured."""
    under_zero(2, *ppo_arguments, "--total_episodes", str(32 * 30), "--save_steps", "30")
    log = json.loads((tmp_path / "run" / "checkpoint-30" / "trainer_state.json").read_text())["log_history"]
    reward = [row["reward"] for row in log if "reward" in row]
    assert len(reward) == 30 and sum(reward[-5:]) / 5 > sum(reward[:5]) / 5 + 0.1
    saved, before = (load_file(Path(folder) / "model.safetensors") for folder in (tmp_path / "run", base))
    assert set(before) <= set(saved) and all(not torch.equal(before[key], saved[key]) for key in before)
    AutoModelForCausalLM.from_pretrained(tmp_path / "run")


@pytest.mark.parametrize("scored_by", ["rules", "a reward model"])
def test_ppo_under_zero_3_trains_and_saves_the_whole_policy(ppo_arguments, base, tmp_path, scored_by):
    argv = ("--reward_model", untrained_reward_model(base, tmp_path / "rm", "step")) if scored_by != "rules" else ()
    under_zero(3, *ppo_arguments, *argv, "--total_episodes", "64", "--save_steps", "1")
    for folder in (tmp_path / "run", tmp_path / "run" / "checkpoint-1"):
        saved, before = (load_file(Path(f) / "model.safetensors") for f in (folder, base))
        assert {k: v.shape for k, v in before.items()} == {k: v.shape for k, v in saved.items()}
        assert all(not torch.equal(before[key], saved[key]) for key in before)


@pytest.mark.parametrize("stage", [2, 3])
def test_lora_under_zero_saves_the_whole_adapter(ppo_arguments, tmp_path, stage):
    lora = ("--use_peft", "true", "--lora_r", "8", "--lora_target_modules", "all-linear")
    under_zero(stage, *ppo_arguments, *lora, "--total_episodes", "64")
    adapter = load_file(tmp_path / "run" / "adapter_model.safetensors")
    assert len(adapter) == 3 * 7 * 2 and all(v.dim() == 2 and v.abs().sum() > 0 for v in adapter.values())


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


def test_fsdp_is_refused(ppo_arguments, capsys, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(SystemExit) as ended:
        run_ppo(*ppo_arguments)
    assert ended.value.code == 2 and "accelerate_configs/zero3.yaml" in capsys.readouterr().err


def test_a_value_model_of_another_size_trains(base, ppo_arguments, tmp_path):
    small = untrained_reward_model(base, tmp_path / "small", "response", hidden_size=64, intermediate_size=96)
    run_ppo(*ppo_arguments, "--value_model", small, "--total_episodes", "64")
    assert summary(tmp_path / "run")["steps"] == 2


def test_the_run_ends_at_its_kl_bound(ppo_arguments, tmp_path, capsys):
    run_ppo(*ppo_arguments, "--kl_bound", "0.01", "--total_episodes", "3200", "--learning_rate", "2e-3")
    assert 2 <= summary(tmp_path / "run")["steps"] < 20
    assert "is over kl_bound=0.01" in capsys.readouterr().out
    assert (tmp_path / "run" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    "argv, words",
    [
        (["--resume_from_checkpoint", "true"], ["resume_from_checkpoint='true'", "can't resume", "another output_dir"]),
        (["--max_steps", "5"], ["max_steps=5", "total_episodes"]),
        (["--max_grad_norm", "0.5"], ["max_grad_norm=0.5", "doesn't clip"]),
        (["--reward_model_path", "x"], ["reward_model_path='x'", "reward_model"]),
        (["--rewards", "{}"], ["rewards is empty", "math_answer"]),
        (["--rewards", "{math_answer: 0}"], ["nothing to learn from"]),
        (["--num_mini_batches", "2", "--gradient_accumulation_steps", "2"], ["gradient_accumulation_steps: 1"]),
        (["--num_mini_batches", "5"], ["num_mini_batches=5 doesn't divide per_device_train_batch_size=32"]),
        (["--batch_size", "64"], ["batch_size=64", "sets it by itself"]),
        (["--stop_token", "eos"], ["stop_token='eos'", "end token"]),
        (["--bf16", "true"], ["bf16=True", "mixed_precision"]),
        (["--logging_steps", "5"], ["logging_steps=5", "logs every step"]),
        (["--per_device_train_batch_size", "128"], ["68 rows are fewer than a batch", "wait for more forever"]),
        (["--use_vllm", "true"], ["use_vllm is an unknown key"]),
        (["--pad_token", "<nothing>"], ["pad_token='<nothing>' isn't a token"]),
        (["--pad_token", "<|endoftext|>"], ["'<|endoftext|>'", "taken for padding", "<think>"]),
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
