"""Ctrl-C, a scheduler's SIGTERM and a full disk end a run in one line; nothing is lost, and it goes on from there."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import forked
import pytest
import torch
from conftest import REPO
from safetensors.torch import load_file

pytestmark = pytest.mark.launches
STEPS = 8


@pytest.fixture(scope="module")
def argv(untrained) -> list[str]:
    return [
        *(
            "--config",
            "recipes/configs/sft/tiny.yaml",
            "--model_name_or_path",
            untrained,
            "--dataset_options",
            "{rows: 256}",
        ),
        *(
            "--max_steps",
            str(STEPS),
            "--save_steps",
            "100",
            "--logging_steps",
            "1",
            "--held_out",
            "0",
            "--report_to",
            "none",
        ),
        *("--per_device_train_batch_size", "4"),
    ]


# Signals itself, or lets the test do so, in the middle of its third step
SIGNALLED = """
import os, runpy, signal, sys
from transformers import Trainer
number, rank, step = int(sys.argv[1]), os.environ.get("RANK", "0"), Trainer.training_step
def signalled(self, *args, **kwargs):
    if self.state.global_step == 2 and rank == "0":
        os.kill(os.getpid(), number)
    return step(self, *args, **kwargs)
Trainer.training_step = signalled
sys.argv = ["sft", *sys.argv[2:]]
runpy.run_module("recipes.sft", run_name="__main__")
"""


def weights(folder: Path) -> dict:
    return load_file(folder / "model.safetensors")


@pytest.mark.trains
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_in_a_checkpoint_and_it_goes_on_to_the_same_weights(argv, tmp_path, number):
    whole = forked.run([sys.executable, "-m", "recipes.sft", *argv, "--output_dir", tmp_path / "whole"])
    assert whole.returncode == 0, whole.stderr
    run = tmp_path / "run"
    done = forked.run([sys.executable, "-c", SIGNALLED, int(number), *argv, "--output_dir", run])
    assert done.returncode == 128 + number and "Traceback" not in done.stderr, done.stderr
    line = done.stdout.splitlines()[-1]
    assert number.name in line and f"{run}/checkpoint-3" in line and "--resume_from_checkpoint true" in line
    assert json.loads((run / "checkpoint-3" / "trainer_state.json").read_text())["global_step"] == 3
    assert not (run / "summary.json").exists() and not (run / "model.safetensors").exists()
    again = forked.run(
        [sys.executable, "-m", "recipes.sft", *argv, "--output_dir", run, "--resume_from_checkpoint", "true"]
    )
    assert again.returncode == 0 and f"resuming {run} from {run}/checkpoint-3" in again.stdout, again.stderr
    assert all(torch.equal(weights(run)[name], v) for name, v in weights(tmp_path / "whole").items())


@pytest.mark.trains
def test_a_signal_to_one_process_stops_all_after_the_same_step(argv, tmp_path):
    """A scheduler may signal one of them first."""
    ranks = forked.joined_environments(2)
    command = [sys.executable, "-c", SIGNALLED, int(signal.SIGTERM), *argv, "--output_dir", tmp_path / "run"]
    done = forked.run_all([(command, env) for env in ranks], timeout=120)
    assert [one.returncode for one in done] == [143, 143], done[1].stderr
    assert [p.name for p in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-3"]


@pytest.mark.trains
def test_a_signal_before_training_ends_in_one_line(argv, tmp_path):
    code = """
import os, runpy, signal, sys
from recipes.shared import dataset_rows
dataset_rows.load_rows = lambda *_, **__: os.kill(os.getpid(), signal.SIGINT)
sys.argv = ["sft", *sys.argv[1:]]
runpy.run_module("recipes.sft", run_name="__main__")
"""
    done = forked.run([sys.executable, "-c", code, *argv, "--output_dir", tmp_path / "run"])
    assert done.returncode == 130 and done.stderr.strip().splitlines() == ["stopped by Ctrl-C"], done.stderr


@pytest.mark.trains
def test_a_full_disk_says_so_and_keeps_the_last_complete_checkpoint(argv, tmp_path):
    """A file system of 8 MB: a checkpoint of some 3 MB fits once or twice, and not eight times."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = f"mount -t tmpfs -o size=8m tmpfs {disk}"
    command = [
        sys.executable,
        "-m",
        "recipes.sft",
        *argv,
        "--save_steps",
        "1",
        "--save_total_limit",
        "9",
        "--output_dir",
        str(disk / "run"),
    ]
    keep = f"ls {disk}/run > {tmp_path}/left; cp {disk}/run/checkpoint-1/trainer_state.json {tmp_path}/state.json"
    script = f'{mounted} || exit 77; "$@"; code=$?; {keep}; exit $code'
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", *command],
        cwd=REPO, capture_output=True, text=True, env=os.environ, timeout=300,
    )  # fmt: skip
    if (done.returncode in (1, 77) and "unshare" in done.stderr + done.stdout) or done.returncode == 77:
        pytest.skip(f"no file system can be mounted here: {done.stderr}")
    assert done.returncode == 1, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and "the disk is full" in errors[0] and "--resume_from_checkpoint true" in errors[0]
    assert "Traceback" not in done.stderr and json.loads((tmp_path / "state.json").read_text())["global_step"] == 1
