"""DPO by the real trainer: it learns, its first loss is what the equation says, and the reference is the one asked for."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from conftest import run_dpo, run_in_processes
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import data
import rewards
from recipes import dpo
from recipes.measuring import divergence, sampler
from recipes.shared import model_loading, tokens

ALL_LINEAR = ("--use_peft", "--lora_target_modules", "all-linear")


def summary(folder) -> dict:
    return json.loads((Path(folder) / "summary.json").read_text())


def log_of(folder) -> list[dict]:
    last = max(Path(folder).glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    history = json.loads((last / "trainer_state.json").read_text())["log_history"]
    return [row for row in history if "loss" in row]


def weights(folder, name="model.safetensors") -> dict:
    return load_file(Path(folder) / name)


def write(path, rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def arguments(base, tmp_path) -> list[str]:
    """The command line of a DPO run of seconds: one-digit sums, 16 pairs a step, every loss logged."""
    return [
        *("--config", "recipes/configs/dpo/tiny.yaml", "--model_name_or_path", base, "--held_out", "0"),
        *("--dataset_options", "{digits: 1, rows: 640}", "--per_device_train_batch_size", "16", "--logging_steps", "1"),
        *("--output_dir", str(tmp_path / "run")),
    ]


@pytest.fixture(scope="module")
def other(base, tmp_path_factory) -> str:
    """The base with noise on its weights: another model of the same tokens."""
    folder = str(tmp_path_factory.mktemp("other") / "model")
    model = AutoModelForCausalLM.from_pretrained(base)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.3 * weight.std() * torch.randn_like(weight)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


def right(folder) -> float:
    """The share of right answers to the one-digit sums trained on, 16 to each."""
    tokenizer = model_loading.load_tokenizer(folder)
    rows = data.load("arithmetic", "train", template="plain", digits=1)
    rows = rows.select([i for i in range(len(rows)) for _ in range(16)])
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    texts = [c.text for c in sampler.sample(model, tokenizer, rows["prompt"], sampler.generation_config(24), 256, 0)]
    return sum(rewards.load("math_answer")(completions=texts, answer=rows["answer"])) / len(rows)


def test_dpo_learns(base, arguments, tmp_path, capsys):
    """Accuracy is measured on the sums trained on, see test_grpo_learns; of held-out pairs their flaws can be told."""
    run_dpo(
        *(*arguments, "--dataset_options", "{digits: 1, rows: 3840}", "--per_device_train_batch_size", "64"),
        *("--max_steps", "60", "--beta", "1", "--held_out", "200", "--max_completion_length", "24"),
    )
    run = summary(tmp_path / "run")
    assert run["before"].keys() < run["after"].keys() and run["after"]["rows"] == 200
    assert run["after"]["pair_accuracy"] > 0.6 and run["after"]["margin"] > 0.5 and run["after"]["kl"] > 0
    assert right(str(tmp_path / "run")) > right(base) + 0.1

    first, last = log_of(tmp_path / "run")[0], log_of(tmp_path / "run")[-1]
    assert first["rewards/margins"] == 0 < 1 < last["rewards/margins"]
    assert last["loss"] < 0.3 and last["rewards/accuracies"] > 0.9
    out = capsys.readouterr().out
    assert f"format_rate      {run['before']['format_rate']} -> {run['after']['format_rate']}" in out


@pytest.mark.parametrize("argv", [(), ALL_LINEAR], ids=["full", "LoRA"])
def test_the_first_loss_is_ln_2(arguments, tmp_path, argv):
    """At the first step the policy is the reference, so whatever beta and the pairs: -log sigmoid(0) = ln 2 = 0.6931, and
    every implicit reward is 0. LoRA's B starts at zero. At the second step neither holds."""
    run_dpo(*arguments, *argv, "--max_steps", "2", "--learning_rate", "1e-2")
    first, second = log_of(tmp_path / "run")
    assert float(first["loss"]) == pytest.approx(math.log(2), abs=1e-6)
    assert first["rewards/chosen"] == first["rewards/rejected"] == 0
    assert abs(float(second["loss"]) - math.log(2)) > 1e-3 and second["rewards/chosen"] != 0


@pytest.mark.parametrize("argv", [(), ALL_LINEAR], ids=["full", "LoRA"])
def test_the_first_loss_with_another_reference_is_eq_7(base, other, arguments, tmp_path, argv):
    """-log sigmoid(beta ((log p(chosen) - log q(chosen)) - (log p(rejected) - log q(rejected)))), the mean over the pairs,
    p the policy and q the reference. All pairs are one batch. Under LoRA too, where TRL would else take the base."""
    options = {"digits": 1, "rows": 16}
    run_dpo(
        *(*arguments, *argv, "--max_steps", "1", "--beta", "0.3", "--reference", other),
        *("--dataset_options", json.dumps(options), "--learning_rate", "0"),
    )
    rows = data.load("preferences", template="plain", **options)
    tokenizer = model_loading.load_tokenizer(base)
    p, q = (AutoModelForCausalLM.from_pretrained(folder).eval() for folder in (base, other))
    prompts, ratios = tokens.prompt_ids(rows["prompt"], tokenizer), {}
    for side in ("chosen", "rejected"):
        answers = tokens.completion_ids(rows[side], rows["prompt"], tokenizer)
        of_p, of_q = (torch.tensor(divergence.log_probs(m, prompts, answers)) for m in (p, q))
        ratios[side] = of_p - of_q
    want = -torch.nn.functional.logsigmoid(0.3 * (ratios["chosen"] - ratios["rejected"])).mean().item()
    (first,) = log_of(tmp_path / "run")
    assert float(first["loss"]) == pytest.approx(want, abs=2e-4) and abs(want - math.log(2)) > 2e-3
    assert first["rewards/chosen"] == pytest.approx(0.3 * ratios["chosen"].mean().item(), abs=1e-3)


def test_naming_the_starting_model_or_computing_it_first_changes_nothing(base, arguments, tmp_path):
    losses = []
    for run, argv in {"a": [], "b": ["--reference", base], "c": ["--precompute_ref_log_probs"]}.items():
        run_dpo(*arguments, *argv, "--max_steps", "4", "--output_dir", str(tmp_path / run))
        losses.append([float(row["loss"]) for row in log_of(tmp_path / run)])
    assert losses[0] == losses[1] == pytest.approx(losses[2], abs=1e-4) and len({*losses[0]}) == 4


def test_lora_trains_the_adapter_alone_and_is_measured_against_its_base(base, arguments, tmp_path):
    frozen = weights(base)
    run_dpo(
        *(*arguments, *ALL_LINEAR, "--max_steps", "40", "--learning_rate", "5e-3"),
        *("--held_out", "100", "--max_completion_length", "24"),
    )
    adapter = weights(tmp_path / "run", "adapter_model.safetensors")
    assert adapter and all("lora" in name for name in adapter) and not (tmp_path / "run" / "model.safetensors").exists()
    assert all(v.abs().sum() > 0 for name, v in adapter.items() if "lora_B" in name), "B starts at zero"
    assert all(torch.equal(v, weights(base)[k]) for k, v in frozen.items())
    after = summary(tmp_path / "run")["after"]
    assert after["pair_accuracy"] > 0.5 and after["margin"] > 0 and after["kl"] > 0
    assert log_of(tmp_path / "run")[-1]["rewards/accuracies"] > 0.6


def test_rows_that_prefer_nothing_are_left_out_and_counted(arguments, tmp_path, capsys):
    good = [{"prompt": f"What is {n} + 1?", "chosen": f"{n + 1}", "rejected": f"{n}"} for n in range(4)]
    bad = [good[0] | {"rejected": "1"}, good[1] | {"chosen": None}, good[2] | {"rejected": "7" * 80}]
    path = write(tmp_path / "pairs.jsonl", [*good, *bad])
    run_dpo(
        *(*arguments, "--dataset", path, "--dataset_options", "{}", "--max_length", "60"),
        *("--max_steps", "2", "--per_device_train_batch_size", "2"),
    )
    assert summary(tmp_path / "run")["rows"] == {"rows": 7, "broken": 1, "equal": 1, "too_long": 1}
    out = capsys.readouterr().out
    assert "left out 3 of 7 rows" in out and "1 have equal answers" in out


@pytest.mark.parametrize(
    "argv, words",
    [
        (["--loss_type", "sigmod"], ["loss_type='sigmod'", "'sigmoid'"]),
        (["--loss_type", "[sigmoid, stf]"], ["loss_type='stf'", "'sft'"]),
        (["--f_divergence_type", "reverse-kl"], ["f_divergence_type='reverse-kl'", "'reverse_kl'"]),
        (["--eval_strategy", "steps"], ["eval_strategy", "held_out"]),
        (["--dataset", "arithmetic", "--dataset_options", "{}"], ["needs the column 'chosen'", "prompt, answer"]),
        (["--dataset", "PAIRS", "--dataset_options", "{}", "--held_out", "9"], ["held_out=9", "held_out_dataset"]),
        (["--held_out", "9", "--accuracy", "math_anser"], ["'math_anser'", "'math_answer'"]),
        (["--reference", "outputs/nowhere"], ["reference='outputs/nowhere'", "no such folder"]),
        (["--reference", "OTHER"], ["reference=", "another tokenizer", "leave reference out"]),
    ],
)
def test_what_can_not_work_is_refused_before_a_model_loads(base, arguments, tmp_path, capsys, monkeypatch, argv, words):
    def load(*_, **__):
        raise AssertionError("a model loads")

    for name in ("DPOTrainer", "load_model"):
        monkeypatch.setattr(dpo, name, load)
    monkeypatch.setattr(sampler, "load_model", load)
    pairs = write(tmp_path / "pairs.jsonl", [{"prompt": "1 + 1?", "chosen": "2", "rejected": "3"}])
    tokenizer = model_loading.load_tokenizer(base)
    tokenizer.add_tokens(["<step>"])
    tokenizer.save_pretrained(tmp_path / "other")
    named = {"PAIRS": pairs, "OTHER": str(tmp_path / "other")}
    with pytest.raises(SystemExit) as ended:
        run_dpo(*arguments, *(named.get(a, a) for a in argv))
    lines = capsys.readouterr().err.strip().splitlines()
    assert ended.value.code == 2 and len(lines) == 1, lines
    assert all(word in lines[0] for word in words), lines[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("argv", [(), ("--precompute_ref_log_probs",)], ids=["reference at hand", "computed first"])
def test_dpo_resumed_in_the_middle_ends_with_the_same_weights(arguments, tmp_path, argv):
    """The reference after a resume is the model that the run started from, not the one in the checkpoint."""
    argv = [*arguments, *argv, "--max_steps", "6", "--save_steps", "3", "--output_dir"]
    run_dpo(*argv, str(tmp_path / "a"))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b" / "checkpoint-6" / "trainer_state.json").unlink()  # as if killed while it was written
    for name in ("model.safetensors", "summary.json"):
        (tmp_path / "b" / name).unlink()
    run_dpo(*argv, str(tmp_path / "b"), "--resume_from_checkpoint", "true")
    assert all(torch.equal(v, weights(tmp_path / "b")[k]) for k, v in weights(tmp_path / "a").items())
    a, b = ([row["loss"] for row in log_of(tmp_path / run)] for run in ("a", "b"))
    assert a == b and len(a) == 6
    assert summary(tmp_path / "b")["resumed_from"].endswith("checkpoint-3")


def test_two_processes_learn_and_measure_as_one_does(arguments, tmp_path):
    """8 pairs a process make the same batch of 16, and the held-out rows are shared out and put together again."""
    argv = [*arguments, "--max_steps", "20", "--held_out", "101", "--max_completion_length", "24"]
    two = ["--per_device_train_batch_size", "8", "--output_dir", str(tmp_path / "two")]
    assert run_in_processes("recipes.dpo", *argv, *two).stdout.count("saved to") == 1
    run_dpo(*argv)
    one, two = summary(tmp_path / "run"), summary(tmp_path / "two")
    assert one.keys() == two.keys() and one["before"].keys() == two["before"].keys()
    for key in ("rows", "pair_accuracy", "margin"):
        assert two["after"][key] == pytest.approx(one["after"][key], rel=0.02)
    losses = [[float(row["loss"]) for row in log_of(tmp_path / run)] for run in ("run", "two")]
    assert losses[0] == pytest.approx(losses[1], abs=0.01) and len(losses[0]) == 20
