"""The configs that reproduce a published run say what it said: the source is beside each number, and so is what departs from it."""

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import REPO

from recipes.shared.cli import recipe_config
from recipes.shared.launch import Launch


@dataclass(kw_only=True)
class Run:
    prompts: int  # of one sampling
    group: int  # completions of each
    step: int  # completions of one optimiser step
    settings: dict
    departs: dict = field(default_factory=dict)  # what this project says instead: name -> (theirs, ours)


# DeepSeek-R1-Zero, 2501.12948: learning rate and KL coefficient are others there, for a model of 671B; GRPO is 2402.03300
ADAPTER = {"use_peft": True, "lora_target_modules": ["all-linear"], "template": "chat", "temperature": 1.0}
ADAPTER |= {
    "learning_rate": 1e-5
}  # ten times 1e-6, TRL's rate for full fine-tuning: LoRA Without Regret, Schulman et al. 2025

# simpleRL-reason, train_grpo_math_tune_ray.sh (defaults) and README (--max_response_length 8192 --train_batch_size 1024
# --rollout_n 8 --kl_loss_coef 0.0001 --entropy_coeffient 0.001): both in prompts, 1,024 a sampling and 256 an optimiser step
SIMPLE_RL = {
    "dataset": "math",
    "dataset_options": {"levels": [3, 4, 5]},  # DATASET_NAME=simplelr_math_35
    "learning_rate": 5e-7,
    "lr_scheduler_type": "constant",  # verl's default, and the weight decay
    "weight_decay": 0.01,
    "beta": 1e-4,
    "entropy_coef": 0.001,
    "epsilon": 0.2,
    "max_prompt_length": 1024,
    "max_completion_length": 8192,
    "temperature": 1.0,
    "per_device_train_batch_size": 2,  # PPO_MICRO_BATCH_SIZE: what a loss of type bnpo is averaged over
    "loss_type": "bnpo",
    "scale_rewards": "group",
    "rewards": {"math_answer": 1.0},  # 2503.18892: right answers alone, no format
    "max_steps": 400,  # README: about 100 steps, each of them four here
}
UNCORRECTED = {"vllm_importance_sampling_correction": False, "use_bias_correction_kl": False}  # neither was known then

# TinyZero, scripts/train_tiny_zero.sh, and verl's defaults where that says nothing
TINY_ZERO = {
    "dataset": "countdown",
    "dataset_options": {"source": "hub"},  # Jiayi-Pan/Countdown-Tasks-3to4
    "learning_rate": 1e-6,
    "lr_scheduler_type": "constant",
    "max_prompt_length": 256,
    "temperature": 1.0,
    "rewards": {
        "countdown": 1.0,
        "think_format": 0.1,
    },  # verl/utils/reward_score/countdown.py: format_score=0.1, score=1
}

RUNS = {
    "grpo/qwen2.5-3b-countdown": Run(
        prompts=32,
        group=8,
        step=128,  # ppo_mini_batch_size
        settings={**TINY_ZERO, **UNCORRECTED, "max_completion_length": 1024, "beta": 0.001, "max_steps": 400},
        departs={"prompts": (256, 32), "group": (1, 8)},  # PPO's: as many completions, in groups
    ),
    "ppo/qwen2.5-3b-countdown": Run(
        prompts=256,
        group=1,
        step=128,
        settings={
            **TINY_ZERO,
            "max_completion_length": 1024,
            "kl_coef": 0.001,
            "value_learning_rate": 1e-5,  # critic.optim.lr
            "epsilon": 0.2,  # the last seven: verl's defaults
            "cliprange_value": 0.5,
            "gamma": 1.0,
            "lam": 1.0,
            "num_ppo_epochs": 1,
            "entropy_coef": 0.001,
            "weight_decay": 0.01,
            "vllm_importance_sampling_correction": False,
            "max_steps": 400,
        },
    ),
    "grpo/qwen2.5-0.5b-math": Run(prompts=1024, group=8, step=256 * 8, settings=SIMPLE_RL | UNCORRECTED),
    "grpo/qwen2.5-1.5b-math": Run(prompts=1024, group=8, step=256 * 8, settings=SIMPLE_RL | UNCORRECTED),
    "grpo/qwen2.5-7b-math": Run(prompts=1024, group=8, step=256 * 8, settings=SIMPLE_RL | UNCORRECTED),
    # understand-r1-zero, examples/qwen2.5-math-1.5b.sh and -7b.sh; oat's cliprange
    "grpo/qwen2.5-math-1.5b-math": Run(
        prompts=128,  # rollout_batch_size
        group=8,
        step=128,  # train_batch_size, in completions
        settings={
            "dataset": "math",
            "dataset_options": {"levels": [3, 4, 5]},  # the 7B's: math_lvl3to5_8k
            "learning_rate": 1e-6,
            "lr_scheduler_type": "constant",
            "beta": 0.0,
            "epsilon": 0.2,
            "max_prompt_length": 1024,
            "max_completion_length": 3000,
            "temperature": 1.0,
            "loss_type": "dr_grpo",  # 2503.20783, 3.2: neither the length nor the standard deviation
            "scale_rewards": "none",
            "template": "boxed",
            "rewards": {"math_answer": 1.0},
            "vllm_gpu_memory_utilization": 0.35,
            "vllm_max_model_length": 4096,  # the base's max_position_embeddings
            "vllm_importance_sampling_correction": False,
        },
        departs={"num_prompt_epoch": (20, 3)},
    ),
    "grpo/qwen2.5-1.5b-gsm8k-lora": Run(prompts=16, group=8, step=128, settings=ADAPTER | {"lora_r": 32}),
    # QLoRA, 2305.14314: nf4, double quantisation, adapters on all linear layers
    "grpo/qwen2.5-7b-gsm8k-qlora": Run(
        prompts=8,
        group=8,
        step=64,
        settings=ADAPTER
        | {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "use_bnb_nested_quant": True, "dtype": "bfloat16"},
    ),
}


def read(name: str) -> tuple[dict, str, int]:
    """A config's keys, the line that launches it, and the number of processes that this line starts."""
    path = Path(REPO, "recipes/configs", f"{name}.yaml")
    (line,) = re.findall(r"^# Launch: (.*)$", path.read_text(), re.M)
    words = shlex.split(line)
    launch = Launch.of_file(words[words.index("--config_file") + 1])
    assert words[words.index("-m") + 1 :][:3] == [
        f"recipes.{path.parent.name}",
        "--config",
        str(path.relative_to(REPO)),
    ]
    if "--num_processes" in words:
        launch.processes = int(words[words.index("--num_processes") + 1])
    return recipe_config(path.parent.name, ["--config", str(path)], launch).given, line, launch.processes


@pytest.mark.parametrize("name", RUNS)
def test_the_settings_are_the_published_ones(name):
    given, _, _ = read(name)
    assert {key: given.get(key) for key in RUNS[name].settings} == RUNS[name].settings


@pytest.mark.parametrize("name", RUNS)
def test_the_batches_add_up_to_the_published_ones(name):
    run, (given, _, processes) = RUNS[name], read(name)
    accumulation = given.get("gradient_accumulation_steps", 1)
    step = processes * given["per_device_train_batch_size"] * accumulation
    of_ppo = accumulation * given.get("num_mini_batches", 1)
    sampled = processes * given["per_device_train_batch_size"] * given.get("steps_per_generation", of_ppo)
    assert (step, sampled, given.get("num_generations", 1)) == (run.step, run.prompts * run.group, run.group)
    assert sampled % step == 0, "a sampling is used up by whole optimiser steps"


@pytest.mark.parametrize("name", RUNS)
def test_the_header_says_what_the_config_does(name):
    """What it departs in, that it wasn't run, and its arithmetic: in the very numbers."""
    run, (given, _, processes) = RUNS[name], read(name)
    header = Path(REPO, "recipes/configs", f"{name}.yaml").read_text().partition("model_name_or_path")[0]
    header = header.replace("\n# ", " ").replace(",", "")
    assert "Not yet run on a GPU here" in header and re.search(r"\b(\d{4}\.\d{5}|TinyZero)\b", header)
    micro = [str(processes), f"device{'s' * (processes > 1)} x", str(given["per_device_train_batch_size"])]
    if "gradient_accumulation_steps" in given:
        micro += ["x", str(given["gradient_accumulation_steps"]), "accumulation"]
    assert f"{' '.join(micro)} = {run.step} completions" in header
    if run.group > 1:
        assert re.search(
            rf"{run.prompts * run.group}( completions a step)? = {run.prompts} prompts x {run.group}\b", header
        )
    assert f"{given['max_steps']} steps" in header
    for key, (theirs, _) in run.departs.items():
        assert re.search(rf"(?<![\d.]){re.escape(f'{theirs:g}'.replace('e-0', 'e-'))}\b", header), f"{key}: {theirs}"


def test_every_config_that_names_a_published_run_is_in_the_table():
    shared = {"grpo", "ppo"}
    paths = [p for kind in shared for p in Path(REPO, "recipes/configs", kind).glob("*.yaml")]
    launched = {f"{p.parent.name}/{p.stem}" for p in paths if "# Launch: accelerate launch" in p.read_text()}
    assert launched == set(RUNS)


@pytest.mark.parametrize("name", [name for name in RUNS if "grpo" in name])
def test_weights_and_steps_are_precise_enough_for_the_rate(name):
    """bfloat16 weights lose steps of 1e-6: full fine-tuning has float32 ones, and so has a base that adapters are merged into."""
    given, line, _ = read(name)
    assert given["bf16"] is True and ("zero" in line or given.get("use_peft"))
    assert given.get("dtype", "float32") == ("bfloat16" if given.get("load_in_4bit") else "float32")
