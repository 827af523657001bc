"""The doctor: what it says works has really been run, and what doesn't is named with its reason."""

import json
import sys

import forked
import pytest

from recipes import doctor
from recipes.preflight import machine
from recipes.preflight.findings import Findings
from recipes.shared.run_config import TRAINING, RunConfig

# its runs are processes without the seconds of their imports
FORKED_RUNS = """
import runpy, subprocess, sys
from types import SimpleNamespace
import forked
from recipes.preflight import machine
machine.subprocess = SimpleNamespace(**vars(subprocess) | {"Popen": forked.Popen})
sys.argv = ["recipes.doctor", *sys.argv[1:]]
runpy.run_module("recipes.doctor", run_name="__main__")
"""


def examined(*argv: str) -> tuple[int, dict[str, tuple[str, str]]]:
    done = forked.run([sys.executable, "-c", FORKED_RUNS, *argv, "--json"], timeout=900)
    found = json.loads(done.stdout[done.stdout.index("{") :])["findings"]
    return done.returncode, {f["what"]: (f["status"], f["said"]) for f in found}


@pytest.mark.trains
@pytest.mark.launches
@pytest.mark.parametrize(
    "only, tried",
    [
        (", LoRA", [f"{recipe}, LoRA" for recipe in TRAINING]),
        ("GRPO", [f"grpo, {kind}" for kind in machine.KINDS]),
        ("zero3", ["DeepSpeed zero3"]),
    ],
)
def test_on_a_cpu_steps_are_really_taken(only, tried):
    code, found = examined("--only", only)
    assert code == 0 and list(found) == tried, found
    assert all(status == "pass" and " s a step" in text for status, text in found.values()), found


@pytest.mark.sandbox
def test_what_a_cpu_can_not_do_is_skipped_with_its_reason(monkeypatch, capsys):
    monkeypatch.setattr(machine.Machine, "steps", lambda self, found, *_, **__: found.say("pass", "steps", "not here"))
    with pytest.raises(SystemExit) as ended:
        doctor.main(["--json"])
    found = {f["what"]: f["status"] for f in json.loads(capsys.readouterr().out)["findings"]}
    assert ended.value.code == 0 and found["sandbox"] == found["machine"] == "pass"
    assert {what for what, status in found.items() if status == "skip"} >= {
        "GPUs",
        "NCCL",
        "flash attention",
        "vLLM, server",
    }


def test_what_fails_is_named_with_its_reason_and_the_rest_is_asked(monkeypatch, capsys):
    def broken(*_):
        raise OSError("libcudart.so.13: cannot open shared object file")

    monkeypatch.setattr(machine.Machine, "devices", broken)
    monkeypatch.setattr(
        machine.Machine, "questions", lambda self: iter([("GPUs", self.devices), ("machine", self.itself)])
    )
    with pytest.raises(SystemExit) as ended:
        doctor.main([])
    out = capsys.readouterr().out
    assert ended.value.code == 2 and "fail  GPUs     OSError: libcudart.so.13" in out and "pass  machine" in out


@pytest.mark.launches
@pytest.mark.parametrize(
    "code, limit, words",
    [
        (
            "print('Loading'); raise RuntimeError('CUDA error: no kernel image')",
            60,
            "RuntimeError: CUDA error: no kernel",
        ),
        ("import time; time.sleep(600)", 1, "no end within 1 s: see .*sft-full.log"),
    ],
)
def test_a_run_that_fails_or_hangs_says_so(monkeypatch, tmp_path, code, limit, words):
    monkeypatch.setattr(machine, "MEASURED", code)
    monkeypatch.setattr(machine, "LIMIT_S", limit)
    with pytest.raises(ValueError, match=words):
        machine.Machine(tmp_path).steps(Findings(RunConfig("sft")), "sft", "full")


def test_the_reason_is_the_line_that_says_why():
    assert machine.reason("a\nerror: b\nc") == "error: b"
    assert machine.reason("Traceback\n  x\nRuntimeError: CUDA error\n\nprocess 3 ended") == "RuntimeError: CUDA error"
    assert machine.reason("") == "it said nothing"


def test_an_unknown_question_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        doctor.main(["--only", "tpu"])
    assert ended.value.code == 2 and "no such question" in capsys.readouterr().err
