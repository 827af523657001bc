"""Two machines of one process each, under the launch file for several: ZeRO-3 over gloo, each launched by itself.

Each is a network namespace with its own address, joined by a virtual cable that can be cut, and both see one file system.
Where namespaces can't be made (not root), both are on loopback, which a warning says; what needs a cable, or a disk of one
machine's own, is skipped, and says so.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from pathlib import Path

import forked
import pytest
from conftest import REPO

ENDS_WITHIN_S = 60  # seconds after the other side was killed; measured: see docs/distributed.md

# A machine with a disk of its own in the place of the folder; NFS isn't waited for
UNSHARED = """
import runpy, sys
from recipes.shared import run_folder
run_folder.SHARED_WITHIN_S = 2
runpy.run_module("recipes.sft", run_name="__main__", alter_sys=True)
"""

# What ddp_timeout does on GPUs; where use_cpu is set, the Trainer doesn't hand it on, and the limit is torch's 1,800 s
TIMEOUT = """
import datetime, functools, runpy
import torch.distributed as dist
limit = datetime.timedelta(seconds={seconds})
dist.init_process_group = functools.partial(dist.init_process_group, timeout=limit)
runpy.run_module("recipes.sft", run_name="__main__", alter_sys=True)
"""
TIMEOUT_S = 15


class Machines:
    """The two machines, and what was started on them; their processes end with the test."""

    def __init__(self, base: str, folder: Path):
        self.base, self.folder, self.started = base, folder, []
        names = [f"r1-{os.getpid()}-{i}" for i in (0, 1)]
        made = [
            *(f"ip netns add {name}" for name in names),
            f"ip link add cable0 netns {names[0]} type veth peer name cable1 netns {names[1]}",
            *(f"ip -n {n} addr add 10.213.17.{i + 1}/24 dev cable{i}" for i, n in enumerate(names)),
            *(f"ip -n {n} link set {d} up" for i, n in enumerate(names) for d in ("lo", f"cable{i}")),
        ]
        self.names = names
        for line in made:
            try:
                subprocess.run(line.split(), check=True, capture_output=True)
            except (OSError, subprocess.CalledProcessError) as error:
                self.close()
                self.names = None
                warnings.warn(f"no network namespaces here ({error}): two machines on loopback", stacklevel=2)
                break
        self.address = "10.213.17.1" if self.names else "127.0.0.1"

    def start(self, *argv: str, script=("-m", "recipes.sft"), own_disk: bool = False) -> list:
        """A run on both, of rank 0 and 1; the second with an empty disk of its own over the run's folder, if asked."""
        port = "29500"
        if not self.names:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = str(free.getsockname()[1])
        launch = [sys.executable, "-m", "accelerate.commands.launch", "--mixed_precision", "no", "--num_processes", "2"]
        launch += ["--config_file", "accelerate_configs/multi_node_zero3.yaml", "--main_process_ip", self.address]
        launch += ["--main_process_port", port]
        run = [
            *script,
            "--config",
            "recipes/configs/sft/tiny.yaml",
            "--model_name_or_path",
            self.base,
            "--held_out",
            "0",
        ]
        run += ["--dataset_options", "{rows: 256}", "--per_device_train_batch_size", "4", "--logging_steps", "1"]
        run += ["--save_steps", "5", "--lr_scheduler_type", "constant", "--output_dir", str(self.folder / "run"), *argv]
        both = []
        for rank in (0, 1):
            command = [*launch, "--machine_rank", str(rank), *run]
            if own_disk and rank == 1:
                command = [
                    "unshare",
                    "-m",
                    "sh",
                    "-c",
                    f'mount -t tmpfs none {self.folder} && exec "$@"',
                    "sh",
                    *command,
                ]
            environment = os.environ | {"GLOO_SOCKET_IFNAME": f"cable{rank}" if self.names else "lo"}
            children = self.folder.parent / f"children{rank}"
            children.unlink(missing_ok=True)
            environment |= {"PYTHONPATH": str(REPO), forked.CHILDREN: str(children)}
            log = (self.folder.parent / f"machine{rank}.log").open("w")
            if own_disk:
                command = ["ip", "netns", "exec", self.names[rank], *command]
                process = subprocess.Popen(command, cwd=REPO, env=environment, stdout=log, stderr=log)
            else:
                environment |= {forked.NETWORK: self.names[rank]} if self.names else {}
                process = forked.Popen(command, env=environment, stdout=log, stderr=log)
            process.children = children
            both.append(process)
        self.started += both
        return both

    def log(self, rank: int) -> str:
        return (self.folder.parent / f"machine{rank}.log").read_text()

    def cut(self) -> None:
        subprocess.run(["ip", "-n", self.names[1], "link", "set", "cable1", "down"], check=True)

    def close(self) -> None:
        for process in self.started:
            kill(process)
        for name in self.names or []:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def kill(process) -> None:
    """The launcher and what it started, at once, as when a machine goes down."""
    if process.poll() is None:
        children = process.children.read_text().split() if process.children.exists() else []
        for pid in [process.pid, *map(int, children)]:
            os.kill(pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def machines(base, tmp_path):
    (tmp_path / "shared").mkdir()
    made = Machines(base, tmp_path / "shared")
    yield made
    made.close()


def wait_for_step(machines: Machines, both: list, checkpoint: int) -> None:
    state = machines.folder / "run" / f"checkpoint-{checkpoint}" / "trainer_state.json"
    give_up = time.monotonic() + 180
    while not state.exists():
        assert all(p.poll() is None for p in both) and time.monotonic() < give_up, machines.log(0)[-3000:]
        time.sleep(0.1)


def seconds_to_end(process, limit: float) -> float:
    start = time.monotonic()
    process.wait(timeout=limit)
    return time.monotonic() - start


def test_a_machine_is_killed_and_the_run_continued(machines, capsys):
    """Once the second machine, once the first, at which the processes meet: the other one ends with an error by itself."""
    endless = ("--max_steps", "100000", "--save_total_limit", "2")
    took, checkpoint = {}, 5
    for victim in (1, 0):
        both = machines.start(*endless, *(("--resume_from_checkpoint", "true") if checkpoint > 5 else ()))
        wait_for_step(machines, both, checkpoint)
        kill(both[victim])
        took[victim] = seconds_to_end(both[1 - victim], ENDS_WITHIN_S)
        assert both[1 - victim].returncode != 0
        last = max(int(p.name.split("-")[1]) for p in machines.folder.glob("run/checkpoint-*"))
        checkpoint = last + 10  # the last one may be half written
    both = machines.start("--resume_from_checkpoint", "true", "--max_steps", str(checkpoint))
    for process in both:
        assert process.wait(timeout=180) == 0, machines.log(0)[-3000:]
    summary = json.loads((machines.folder / "run" / "summary.json").read_text())
    assert summary["steps"] == checkpoint and int(summary["resumed_from"].split("-")[-1]) >= last - 5
    history = json.loads((machines.folder / f"run/checkpoint-{checkpoint}/trainer_state.json").read_text())[
        "log_history"
    ]
    losses = [row["loss"] for row in history if "loss" in row]
    assert len(losses) == checkpoint and sum(map(float, losses[-5:])) < sum(map(float, losses[:5]))
    with capsys.disabled():
        print(f"\nthe other machine ended {took[1]:.1f} s and {took[0]:.1f} s after the second, the first was killed")


def test_a_cut_cable_ends_both_machines_by_timeout(machines, tmp_path, capsys):
    """Nothing says that the other side is gone: each waits for as long as the process group's timeout allows."""
    if machines.names is None:
        pytest.skip("no network namespaces here, so no cable to cut")
    script = tmp_path / "timeout.py"
    script.write_text(TIMEOUT.format(seconds=TIMEOUT_S))
    both = machines.start("--max_steps", "100000", "--save_total_limit", "2", script=(str(script),))
    wait_for_step(machines, both, 5)
    machines.cut()
    start = time.monotonic()
    took = []
    for process in both:
        process.wait(timeout=TIMEOUT_S + ENDS_WITHIN_S)
        took.append(time.monotonic() - start)
        assert process.returncode != 0
    with capsys.disabled():
        print(f"\nboth machines had ended {max(took):.1f} s after the cable was cut; the timeout was {TIMEOUT_S} s")


def test_a_folder_that_is_not_shared_is_refused(machines, tmp_path):
    if machines.names is None:
        pytest.skip("not root, so no disk of one machine's own can be mounted")
    script = tmp_path / "unshared.py"
    script.write_text(UNSHARED)
    both = machines.start("--max_steps", "5", script=(str(script),), own_disk=True)
    assert all(process.wait(timeout=120) != 0 for process in both)
    assert "is not one folder for all machines" in machines.log(0) and "a file system that they share" in machines.log(
        0
    )
    assert not (machines.folder / "run").exists()
