"""accelerate_configs/slurm.sbatch, with commands in the place of Slurm's that write down how they are called."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import REPO

SCRIPT = "accelerate_configs/slurm.sbatch"
CONFIG, ZERO2 = "recipes/configs/grpo/qwen2.5-7b-math.yaml", "accelerate_configs/zero2.yaml"
# srun runs its command once a task, as the real one does on as many nodes
STUBS = {
    "scontrol": 'if [ "$1" = show ]; then printf "%s\\n" $NODES; else echo "scontrol $*" >>"$CALLS"; exit ${REFUSED:-0}; fi',
    "srun": """line=srun
while [[ "$1" == --* ]]; do
    line+=" $1"; [[ "$1" != --ntasks=* ]] || tasks=${1#--ntasks=}; shift
done
echo "$line" >>"$CALLS"
pids=()
trap 'kill "${pids[@]}"; wait; exit 143' TERM
for ((rank = 0; rank < tasks; rank++)); do SLURM_PROCID=$rank "$@" & pids+=($!); done
wait $!""",
    "accelerate": 'line=accelerate$(printf " <%s>" "$@"); echo "$line" >>"$CALLS"; exec $TRAINING',
    "trl": """line=trl$(printf " <%s>" "$@"); echo "$line" >>"$CALLS"
trap 'kill $!; echo killed >>"$CALLS"; exit' TERM
$SERVING &
wait $!""",
}
JOB = {"SLURM_JOB_ID": "70001", "SLURM_JOB_NODELIST": "gpu[1-3]", "SLURM_GPUS_ON_NODE": "8", "NODES": "gpu1"}
RUN = {"RECIPE": "grpo", "CONFIG": CONFIG, "LAUNCH": ZERO2}
SERVER = {"VLLM_MODEL": "Qwen/Qwen2.5-7B", "VLLM_TENSOR_PARALLEL": "4", "VLLM_MAX_MODEL_LEN": "9216"}


@pytest.fixture
def start(tmp_path):
    """Starts the script with these variables and arguments; `calls()` is what was called, sorted, as nodes are not in order."""
    for name, body in STUBS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "calls").write_text("")

    def begin(*argv, **variables):
        variables = {"TRAINING": "true", "SERVING": "sleep 30", **JOB, **RUN, **variables}
        path = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(tmp_path / "calls")}
        environment = path | {key: value for key, value in variables.items() if value is not None}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(["bash", SCRIPT, *argv], cwd=REPO, env=environment, start_new_session=True, **pipes)

    begin.calls = lambda: sorted((tmp_path / "calls").read_text().splitlines())
    return begin


def finished(process) -> tuple[int, str]:
    try:
        _, err = process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, err


def launched(rank, machines, *rest) -> str:
    words = ["launch", "--machine_rank", str(rank), "--config_file", ZERO2, "--num_machines", str(machines)]
    words += ["--num_processes", str(8 * machines), "--main_process_ip", "gpu1", "--main_process_port", "30001"]
    words += ["-m", "recipes.grpo", "--config", CONFIG, *rest]
    return "accelerate " + " ".join(f"<{word}>" for word in words)


RESUME = ("--resume_from_checkpoint", "true")
TO_SERVER = ("--vllm_server_host", "gpu3", "--vllm_server_port", "8000", "--vllm_group_port", "51216")
TRAIN_ON = "srun --nodes={0} --ntasks={0} --nodelist={1} --kill-on-bad-exit=1"


def test_shellcheck_finds_nothing():
    shellcheck = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run([shellcheck, SCRIPT], cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_one_node(start):
    assert finished(start("--output_dir", "a b")) == (0, "")
    assert start.calls() == [launched(0, 1, *RESUME, "--output_dir", "a b"), TRAIN_ON.format(1, "gpu1")]


def test_two_nodes_are_two_machines_of_one_run(start):
    assert finished(start(NODES="gpu1 gpu2", SRUN_OPTIONS="--mpi=none --container-image=a.sqsh")) == (0, "")
    together = TRAIN_ON.format(2, "gpu1,gpu2") + " --mpi=none --container-image=a.sqsh"
    assert start.calls() == [launched(0, 2, *RESUME), launched(1, 2, *RESUME), together]


def test_two_nodes_and_a_server_on_the_third(start):
    # the trainer ends when the server has been asked for: in life it waits for it
    assert finished(start(NODES="gpu1 gpu2 gpu3", TRAINING="sleep 1", **SERVER)) == (0, "")
    arguments = ("vllm-serve", "--model", "Qwen/Qwen2.5-7B", "--tensor_parallel_size", "4", "--port", "8000")
    assert start.calls() == sorted(
        [
            *(launched(rank, 2, *TO_SERVER, *RESUME) for rank in (0, 1)),
            TRAIN_ON.format(2, "gpu1,gpu2"),
            "srun --nodes=1 --ntasks=1 --nodelist=gpu3",
            "trl " + " ".join(f"<{word}>" for word in (*arguments, "--max_model_len", "9216")),
            "killed",  # nothing is left running
        ]
    )


def test_a_server_that_ends_ends_the_training(start):
    code, err = finished(start(NODES="gpu1 gpu2", TRAINING="sleep 30", SERVING="false", **SERVER))
    assert code == 1 and "vLLM's server on gpu2 ended" in err


def test_a_failed_training_is_a_failed_job(start):
    assert finished(start(TRAINING="false"))[0] == 1


@pytest.mark.parametrize(
    "variables, code", [({"TRAINING": "sleep 30"}, 0), ({"TRAINING": "timeout 1 sleep 9", "REFUSED": "1"}, 124)]
)
def test_near_its_time_limit_the_job_is_requeued_or_trains_on(start, variables, code):
    process = start(**variables)
    deadline = time.monotonic() + 20
    while len(start.calls()) < 2:
        assert time.monotonic() < deadline, "the training never started"
        time.sleep(0.05)
    process.send_signal(signal.SIGUSR1)
    assert finished(process)[0] == code
    assert "scontrol requeue 70001" in start.calls()


def test_what_is_set_up_first_is_there_in_every_task(start, tmp_path):
    (tmp_path / "setup.sh").write_text(
        "export TRAINING='printenv NCCL_SOCKET_IFNAME GREETING'\nexport GREETING=hello\n"
    )
    process = start(SETUP=str(tmp_path / "setup.sh"), INTERFACE="ib0")
    out, _ = process.communicate(timeout=20)
    assert out.split() == ["ib0", "hello"]


@pytest.mark.parametrize(
    "variables, words",
    [
        *(({name: None}, f"{name} is not set") for name in RUN),
        ({"SLURM_JOB_ID": None}, "start this script by sbatch"),
        ({"RECIPE": "r1"}, "RECIPE=r1 is not one of"),
        ({"CONFIG": "none.yaml"}, "none.yaml: there is no such file"),
        ({"LAUNCH": "none.yaml"}, "none.yaml: there is no such file"),
        ({"SETUP": "none.sh"}, "none.sh: there is no such file"),
        ({"SLURM_GPUS_ON_NODE": None}, "give sbatch --gpus-per-node"),
        ({"GPUS_PER_NODE": "eight"}, "GPUS_PER_NODE=eight"),
        ({"RECIPE": "sft", **SERVER}, "grpo and ppo take a server"),
        (SERVER, "give sbatch --nodes 2 or more"),
    ],
)
def test_what_is_missing_is_named_before_anything_starts(start, variables, words):
    code, err = finished(start(**variables))
    assert code == 2 and err.startswith("error: ") and words in err and len(err.splitlines()) == 1
    assert start.calls() == []
