"""The same run under every engine: two processes of it, on the CPU over gloo, do what one does with the same batch.

The launch files are those for GPUs, with two processes and in float32. A recipe has nothing to say about engines, so what is
tested is what TRL, Accelerate and DeepSpeed make of it: how losses are averaged, gradients clipped and states sharded, what a
checkpoint holds, and what is saved. All figures that are compared are logged in float32.
"""

import json
import subprocess
import sys
from pathlib import Path

import forked
import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from conftest import REPO
from safetensors.torch import load_file
from transformers import AutoTokenizer
from trl import ModelConfig, SFTConfig

from recipes.measuring import sampler
from recipes.shared import reward_models

# the largest difference seen is 1.1e-5 of a value (DPO's second loss, a difference of log-probabilities); elsewhere it is 1e-6
RELATIVE = 1e-4

# Recipes in a row in one process, which start as in a new one. Random numbers are drawn for the whole batch, and each process
# takes its rows: TRL seeds each process in its own way, so that two would sample other completions than one.
DRIVER = """
import gc, json, os, runpy, signal, sys
import torch
from accelerate.state import AcceleratorState, GradientState
from transformers import Trainer
from recipes.preflight import entry

COMPLETIONS, at, step = 32, [0, 0], Trainer.training_step

def multinomial(probs, num_samples):
    at[1] += 1
    rng = torch.Generator().manual_seed(1000 * at[0] + at[1])
    noise = torch.empty(COMPLETIONS, probs.shape[1], dtype=torch.float64).exponential_(generator=rng)
    first = int(os.environ.get("RANK", 0)) * len(probs)
    return (probs / noise[first : first + len(probs)]).argmax(1, keepdim=True)

def noted(self, *args, **kwargs):
    at[:] = self.state.global_step, 0
    if kill and self.state.global_step == 3 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, *args, **kwargs)

torch.multinomial, Trainer.training_step = multinomial, noted
commands, left, leave = json.loads(sys.argv[1]), [], entry.leave
entry.leave = lambda: left.append(module)  # the other processes are needed again
for module, argv, kill in commands:
    sys.argv = [module, *argv]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    gc.collect()
    AcceleratorState._reset_state()
    GradientState._reset_state()
leave()
assert left == [module for module, *_ in commands] and not torch.distributed.is_initialized()
"""
LORA = ("--use_peft", "true", "--lora_r", "8", "--lora_target_modules", "all-linear", "--learning_rate", "5e-3")
LORA += ("--lora_dropout", "0")  # it is 0.05 in TRL, and each process drops other parts
LORA += ("--adam_epsilon", "1e-6")  # at 1e-8, gradients that are nothing but rounding make steps of some size
PPO = (
    "--num_ppo_epochs",
    "3",
    "--num_mini_batches",
    "1",
    "--kl_coef",
    "0.05",
    "--value_learning_rate",
    "1e-3",
)  # checkpoint-2 is within a batch
# what each run adds to the recipe's tiny config, and rows a step: SFT accumulates gradients, the first three clip them
RUNS = {
    "grpo": ("grpo", 32, ("--dataset_options", "{digits: 1}", "--max_completion_length", "24")),
    "ppo": ("ppo", 32, ("--dataset_options", "{digits: 1}", "--max_completion_length", "24", *PPO)),
    "sft": ("sft", 8, ("--dataset_options", "{rows: 256}", "--gradient_accumulation_steps", "2")),
    "dpo": ("dpo", 16, ("--dataset_options", "{rows: 256}")),
    "reward_model": ("reward_model", 16, ("--dataset_options", "{rows: 256}")),
    "lora": ("sft", 16, ("--dataset_options", "{rows: 256}", *LORA)),
    "lora_ppo": ("ppo", 32, ("--dataset_options", "{digits: 1}", "--max_completion_length", "24", *PPO, *LORA)),
    "lora_reward_model": ("reward_model", 16, ("--dataset_options", "{rows: 256}", *LORA)),
}
FULL = ("grpo", "ppo", "sft", "dpo", "reward_model")
KILLED = ("grpo", "ppo", "lora", "lora_ppo")


def command(run: str, base: str, folder: Path, processes: int, kill: bool = False, resume: bool = False) -> tuple:
    recipe, batch, argv = RUNS[run]
    given = [
        *("--config", f"recipes/configs/{recipe}/tiny.yaml", "--model_name_or_path", base, "--held_out", "0", *argv),
        *("--per_device_train_batch_size", str(batch // processes), "--max_steps", "5", "--save_steps", "2"),
        *("--logging_steps", "1", "--report_to", "none", "--output_dir", str(folder)),
        *(("--resume_from_checkpoint", "true") if resume else ()),
    ]
    return f"recipes.{recipe}", given, kill


def launch(engine: str | None, commands: list[tuple], folder: Path) -> None:
    """One process, or two under a launch file of this repository; with a run to be killed, which is the last, both must end."""
    driver = folder / "driver.py"
    driver.write_text(DRIVER)
    start = ("-m", "accelerate.commands.launch", "--config_file", f"accelerate_configs/{engine}.yaml")
    start += ("--num_processes", "2", "--mixed_precision", "no", "--main_process_port", "0")
    done = forked.run([sys.executable, *(start if engine else ()), str(driver), json.dumps(commands)])
    assert (done.returncode != 0) == commands[-1][-1], done.stderr[-6000:]


@pytest.fixture(scope="module")
def one(base, tmp_path_factory) -> Path:
    """Each run in one process."""
    folder = tmp_path_factory.mktemp("one")
    launch(None, [command(run, base, folder / run, processes=1) for run in RUNS], folder)
    return folder


@pytest.fixture(scope="module")
def zero3(base, tmp_path_factory) -> Path:
    """Each run under ZeRO-3; two of them also killed in their fourth step, and continued."""
    folder = tmp_path_factory.mktemp("zero3")
    launch("zero3", [command(run, base, folder / run, processes=2) for run in RUNS], folder)
    for run in KILLED:
        launch("zero3", [command(run, base, folder / f"{run}_killed", processes=2, kill=True)], folder)
        assert not (folder / f"{run}_killed" / "summary.json").exists()
    launch("zero3", [command(run, base, folder / f"{run}_killed", processes=2, resume=True) for run in KILLED], folder)
    return folder


def history(folder: Path) -> list[dict]:
    """What was logged of each step, as numbers."""
    rows = json.loads((folder / "checkpoint-5" / "trainer_state.json").read_text())["log_history"]
    return [{k: float(v) for k, v in row.items()} for row in rows if "loss" in row]


def assert_same(folder: Path, reference: Path) -> None:
    """Loss, gradient norm and reward of each step, and the model that is saved."""
    ours, theirs = history(folder), history(reference)
    keys = [
        k
        for k in ("loss", "grad_norm", "reward", "rewards/accuracies", "accuracy", "loss/value_avg", "objective/kl")
        if k in theirs[0]
    ]
    assert len(ours) == len(theirs) == 5 and {"loss", "grad_norm"} <= set(keys)
    for key in keys:
        values = [[row[key] for row in rows if key in row] for rows in (ours, theirs)]
        assert values[0] == pytest.approx(values[1], rel=RELATIVE, abs=1e-7), key
    assert len({row["loss"] for row in theirs}) == 5, "a run that moves"
    ours, theirs = logits(folder), logits(reference)
    assert (ours - theirs).abs().max() < RELATIVE * theirs.abs().max()


@torch.no_grad()
def logits(folder: Path) -> torch.Tensor:
    """What the saved model says of some tokens, loaded in one process as an evaluation, or PPO, loads it."""
    tokens = torch.arange(40, 100).reshape(2, 30)
    if (folder / reward_models.KIND).exists():
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = reward_models.load(str(folder), reward_models.Kind.of(str(folder)), tokenizer).eval()
    else:
        model = sampler.load_model(ModelConfig(str(folder), dtype="float32"), SFTConfig(use_cpu=True, bf16=False))
    return model(input_ids=tokens).logits


@pytest.mark.parametrize("engine", ["multi_gpu", "zero1", "zero2", "zero2_offload", "zero3_offload"])
def test_two_processes_are_one(base, one, tmp_path, engine):
    launch(engine, [command(run, base, tmp_path / run, processes=2) for run in FULL], tmp_path)
    for run in FULL:
        assert_same(tmp_path / run, one / run)


@pytest.mark.parametrize("run", RUNS)
def test_two_processes_under_zero_3_are_one(one, zero3, run):
    assert_same(zero3 / run, one / run)


@pytest.mark.parametrize("run", KILLED)
def test_killed_and_continued_under_zero_3(zero3, run):
    """Both processes ended when one was killed; the run went on from its checkpoint, and has the very same weights."""
    name = "adapter_model.safetensors" if run.startswith("lora") else "model.safetensors"
    summary = json.loads((zero3 / f"{run}_killed" / "summary.json").read_text())
    assert summary["resumed_from"].endswith("checkpoint-2")
    killed, left_alone = (load_file(zero3 / folder / name) for folder in (f"{run}_killed", run))
    assert killed.keys() == left_alone.keys()
    assert all(torch.equal(killed[key], left_alone[key]) for key in killed)


@pytest.mark.parametrize(
    "run, name",
    [
        ("grpo", "model"),
        ("ppo", "model"),
        ("reward_model", "model"),
        ("lora", "adapter_model"),
        ("lora_ppo", "adapter_model"),
    ],
)
def test_what_zero_3_saves_is_whole(base, one, zero3, run, name):
    """No empty shards, every weight there, the reward model's head too; all of them have moved."""
    ours, theirs = (load_file(folder / run / f"{name}.safetensors") for folder in (zero3, one))
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
    assert all(v.numel() and v.abs().sum() > 0 for v in ours.values())
    assert run != "reward_model" or ours["score.weight"].shape == (1, 128)


def test_a_launch_that_is_refused_says_why_once(base, tmp_path):
    """Whichever process finds out first: the launcher ends all of them when one has gone."""
    start = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "accelerate_configs/cpu_zero2.yaml"]
    start += ["--main_process_port", "0", "-m"]
    module, argv, _ = command("sft", base, tmp_path / "run", processes=2)
    done = subprocess.run(
        [*start, module, *argv, "--max_stepz", "1"], cwd=REPO, capture_output=True, text=True, timeout=120
    )
    assert done.returncode != 0
    assert [line for line in done.stderr.splitlines() if line.startswith("error:")] == [
        "error: command line: --max_stepz is an unknown key: did you mean 'max_steps'?"
    ]


@pytest.mark.parametrize("path", sorted(Path(REPO, "accelerate_configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_key_of_a_launch_file_is_one_of_accelerate(path):
    """Accelerate refuses an unknown key, but not within deepspeed_config and fsdp_config, where it would do nothing."""
    config = load_config_from_file(str(path))
    known = vars(launch_command_parser().parse_args(["x"]))
    assert {*config.deepspeed_config, *config.fsdp_config} <= known.keys()
    assert config.deepspeed_config.get("zero_stage") != 3 or config.deepspeed_config["zero3_save_16bit_model"] is True
    assert path.read_text().startswith("# ") and "# Shards " in path.read_text() and "# Costs " in path.read_text()
