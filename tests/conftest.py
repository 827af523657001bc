"""What tests share: a trained base and an untrained one, recipes called as functions, and marks that can't be forgotten.

Recipes are imported in functions: pytest-xdist's controller reads this file too, and imports would hold up its workers.
"""

import contextlib
import importlib
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two threads beside anything else are ten times slower
os.environ["WANDB_MODE"] = "disabled"  # the tests of W&B set their own
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["PYTHONFAULTHANDLER"] = "1"  # a process that is aborted says where

import forked
import pytest
from filelock import FileLock  # comes with huggingface_hub

import recipes  # noqa: F401, it sets what libraries read when they are imported

REPO = Path(__file__).resolve().parents[1]


# files that take minutes, the longest first: begun last, one of them would keep a single worker busy. While the first worker trains
# the base, the second runs what doesn't need it.
LONG = ("distributed", "code_tests", "r1", "reward_model", "recipes", "ppo", "benchmarks", "two_machines", "dpo")


def pytest_collection_modifyitems(items):
    for item in items:
        if "base" in item.fixturenames:
            item.add_marker(pytest.mark.trains)
    order = {f"test_{name}": n for n, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.stem, len(LONG)))


@pytest.fixture(autouse=True)
def in_repository(monkeypatch):
    """Configs name files relative to the repository, where recipes are launched from."""
    monkeypatch.chdir(REPO)


@pytest.fixture(autouse=True)
def marked(request, monkeypatch):
    """A test that trains, starts Python or runs programs has to be marked so, since `make check` leaves those out."""
    marks = {mark.name for mark in request.node.iter_markers()} & {"trains", "launches", "sandbox"}
    if not marks:

        def refuse(what):
            raise AssertionError(f"{what}: mark this test trains, launches or sandbox")

        popen = subprocess.Popen.__init__

        def start(self, args, *rest, **kwargs):
            words = args.split() if isinstance(args, str) else list(map(str, args))
            if "python" in words[0] or "accelerate" in words[0]:
                refuse(f"it starts {' '.join(words)[:80]}")
            popen(self, args, *rest, **kwargs)

        monkeypatch.setattr(subprocess.Popen, "__init__", start)
        monkeypatch.setattr(forked.Popen, "__init__", lambda *_, **__: refuse("it forks a command"))
        if "transformers.trainer" in sys.modules:
            monkeypatch.setattr("transformers.Trainer.train", lambda *_, **__: refuse("it trains"))


def arguments(recipe, *argv: str) -> tuple:
    """What a recipe's main() takes, from its command line. recipe: the module, or its name."""
    from recipes.shared.cli import classes_of, parse

    recipe = importlib.import_module(f"recipes.{recipe}") if isinstance(recipe, str) else recipe
    return parse(classes_of(recipe.main), list(argv), problems=getattr(recipe, "problems", None))


def run(recipe, *argv: str) -> None:
    recipe = importlib.import_module(f"recipes.{recipe}") if isinstance(recipe, str) else recipe
    recipe.main(*arguments(recipe, *argv))


run_sft, run_reward_model, run_ppo = partial(run, "sft"), partial(run, "reward_model"), partial(run, "ppo")
run_dpo, run_grpo = partial(run, "dpo"), partial(run, "grpo")


def run_in_processes(module: str, *argv: str, processes: int = 2) -> subprocess.CompletedProcess:
    """A recipe as real processes, joined over gloo as torchrun joins them; its output is that of all of them."""
    done = forked.run_joined(module, *argv, processes=processes)
    assert not any(one.returncode for one in done), "".join(one.stderr[-3000:] for one in done)
    return subprocess.CompletedProcess(
        argv, 0, *("".join(getattr(one, kind) for one in done) for kind in ("stdout", "stderr"))
    )


def shared_folder(tmp_path_factory) -> Path:
    """Where pytest-xdist's workers, whose own folders lie side by side, share what is made once a session."""
    root = tmp_path_factory.getbasetemp()
    return root.parent if "PYTEST_XDIST_WORKER" in os.environ else root


@pytest.fixture(scope="session", autouse=True)
def kernels(request) -> None:
    """DeepSpeed's kernels, which take a minute or two to compile, are kept in pytest's cache and apart from the user's: a build that
    was killed leaves a lock, on which every later run would wait for ever."""
    folder = request.config.cache.mkdir("kernels")
    for lock in folder.glob("*/lock"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - lock.stat().st_mtime > 900:
                lock.unlink()
    os.environ["TORCH_EXTENSIONS_DIR"] = str(folder)


@pytest.fixture(scope="session")
def untrained(tmp_path_factory) -> str:
    """The embedded base with one layer of random weights, for what asks nothing of them."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("untrained")
    source = REPO / "recipes/configs/sft/tiny-base"
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(source, num_hidden_layers=1, layer_types=["full_attention"])
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> str:
    """A small base model by the real recipe, on one-digit sums: 200 steps give it the habits that GRPO selects from.

    It is made once a session.
    """
    root = shared_folder(tmp_path_factory)
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
