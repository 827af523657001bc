import os
import subprocess
import sys
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two threads beside anything else are ten times slower
os.environ["WANDB_MODE"] = "disabled"  # the tests of W&B set their own
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["PYTHONFAULTHANDLER"] = "1"  # a process that is aborted says where

import pytest
from filelock import FileLock  # comes with huggingface_hub

from recipes import dpo, grpo, ppo, reward_model, sft
from recipes.shared.cli import classes_of, parse

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def in_repository(monkeypatch):
    """Configs name files relative to the repository, where recipes are launched from."""
    monkeypatch.chdir(REPO)


def arguments(recipe, *argv: str) -> tuple:
    """What a recipe's main() takes, from its command line."""
    return parse(classes_of(recipe.main), list(argv), problems=getattr(recipe, "problems", None))


def run(recipe, *argv: str) -> None:
    recipe.main(*arguments(recipe, *argv))


run_sft, run_reward_model, run_ppo = partial(run, sft), partial(run, reward_model), partial(run, ppo)
run_dpo, run_grpo = partial(run, dpo), partial(run, grpo)


def run_in_processes(module: str, *argv: str, processes: int = 2) -> subprocess.CompletedProcess:
    """A recipe as real processes, joined over gloo; `accelerate launch --cpu` would start one, whatever the number asked for."""
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)] if processes > 1 else []
    command = [sys.executable, *start, "-m", module, *argv]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=600, env=os.environ)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> str:
    """A small base model by the real recipe, on one-digit sums: 200 steps give it the habits that GRPO selects from.

    It is made once; pytest-xdist's workers, whose folders lie side by side, share it.
    """
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    folder = root / "base"
    os.chdir(REPO)
    with FileLock(root / "base.lock"):
        if not (folder / "summary.json").is_file():
            run_sft(
                *("--config", "recipes/configs/sft/tiny-base.yaml", "--output_dir", str(folder), "--max_steps", "200"),
                *("--dataset_options", "{digits: 1, rows: 12800}", "--save_steps", "200"),
            )
    return str(folder)


@pytest.fixture
def grpo_arguments(base, tmp_path) -> list[str]:
    """The command line of a GRPO run of seconds: one-digit sums, 8 prompts x 8 samples a step."""
    return [
        *("--config", "recipes/configs/grpo/tiny.yaml", "--model_name_or_path", base),
        *("--dataset_options", "{digits: 1}", "--per_device_train_batch_size", "64", "--max_completion_length", "24"),
        *("--report_to", "none", "--held_out", "0", "--output_dir", str(tmp_path / "run")),
    ]
