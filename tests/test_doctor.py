"""The doctor: what it says works has really been run, and what doesn't is named with its reason."""

import json
import sys

import forked
import pytest

from recipes import doctor
from recipes.shared.run_config import TRAINING

# its runs are processes without the seconds of their imports
FORKED_RUNS = """
import runpy, subprocess, sys
import forked
subprocess.run = forked.run_here
sys.argv = ["recipes.doctor", *sys.argv[1:]]
runpy.run_module("recipes.doctor", run_name="__main__")
"""


def examined(*argv: str) -> tuple[int, dict[str, tuple[str, str]]]:
    done = forked.run([sys.executable, "-c", FORKED_RUNS, *argv, "--json"], timeout=900)
    found = json.loads(done.stdout[done.stdout.index("{") :])["findings"]
    return done.returncode, {f["what"]: (f["status"], f["said"]) for f in found}


@pytest.mark.trains
@pytest.mark.launches
@pytest.mark.sandbox
def test_on_a_cpu_all_that_a_cpu_can_do_is_done():
    code, found = examined()
    tried = [f"{recipe}, {kind}" for recipe in TRAINING for kind in doctor.KINDS] + [
        "DeepSpeed zero2",
        "DeepSpeed zero3",
    ]
    assert code == 0 and all(found[what][0] == "pass" and " s a step" in found[what][1] for what in tried), found
    assert found["sandbox"][0] == found["machine"][0] == "pass"
    assert {what for what, (status, _) in found.items() if status == "skip"} >= {"GPUs", "NCCL", "flash attention"}


def test_what_fails_is_named_with_its_reason_and_the_rest_is_asked(monkeypatch, capsys):
    def broken(*_):
        raise OSError("libcudart.so.13: cannot open shared object file")

    monkeypatch.setattr(doctor.Doctor, "devices", broken)
    monkeypatch.setattr(doctor, "sandbox", broken)
    monkeypatch.setattr(
        doctor.Doctor, "questions", lambda self: iter([("GPUs", self.devices), ("machine", self.machine)])
    )
    with pytest.raises(SystemExit) as ended:
        doctor.main([])
    out = capsys.readouterr().out
    assert ended.value.code == 2 and "fail  GPUs     OSError: libcudart.so.13" in out and "pass  machine" in out


@pytest.mark.launches
@pytest.mark.parametrize(
    "base, code, words",
    [
        ("nowhere", doctor.MEASURED, "nowhere"),  # the preflight's reason, before a process is started
        (
            "base",
            "print('Loading'); raise RuntimeError('CUDA error: no kernel image')",
            "RuntimeError: CUDA error: no kernel",
        ),
    ],
)
def test_a_run_that_fails_says_why(monkeypatch, tmp_path, base, code, words):
    made = doctor.Doctor(tmp_path)
    monkeypatch.setattr(made, "base", str(tmp_path / base))
    monkeypatch.setattr(doctor, "MEASURED", code)
    with pytest.raises(ValueError, match=words):
        made.steps(doctor.Findings(doctor.RunConfig("sft")), "sft", "full")


def test_the_reason_is_the_line_that_says_why():
    assert doctor.reason("a\nerror: b\nc") == "error: b"
    assert doctor.reason("Traceback\n  x\nRuntimeError: CUDA error\n\nprocess 3 ended") == "RuntimeError: CUDA error"
    assert doctor.reason("") == "it said nothing"


def test_an_unknown_question_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        doctor.main(["--only", "tpu"])
    assert ended.value.code == 2 and "no such question" in capsys.readouterr().err
