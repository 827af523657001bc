"""recipes.r1 runs real stages in real processes: a killed one goes on, a changed one is made again with what takes from it,
and nothing else is; whatever can't work is refused before anything runs."""

import contextlib
import fcntl
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import forked
import psutil
import pytest
import torch
import yaml
from conftest import REPO
from safetensors.torch import load_file

import data
from recipes import r1
from recipes.pipeline.stage import Stage
from recipes.shared.cli import parse

NAMES = ["cold_start", "grpo", "traces", "sft"]
FIGURES = ("accuracy", "format_rate")
PIPELINES = sorted(Path(REPO, "recipes/configs/r1").rglob("*.yaml"))


# recipes.r1 in a process of its own, whose stages are processes without the seconds of their imports
FORKED_STAGES = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import forked
from recipes import r1
from recipes.preflight.entry import start
r1.subprocess = forked.Here
start("r1", r1.main, r1.problems)
"""


def run_r1(*argv) -> None:
    r1.main(*parse((r1.R1,), [str(a) for a in argv], problems=r1.problems))


def start_r1(here: Path, **how) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-m", "recipes.r1", "--config", str(here / "r1.yaml")], cwd=REPO, **how)


def refused(capsys, *argv) -> str:
    """The one line of a refusal."""
    with pytest.raises(SystemExit) as ended:
        run_r1(*argv)
    lines = capsys.readouterr().err.strip().splitlines()
    assert ended.value.code == 2 and len(lines) == 1 and lines[0].startswith("error: "), lines
    return lines[0]


def write(here: Path, stages: list[dict], **keys) -> Path:
    path = here / "r1.yaml"
    path.write_text(yaml.safe_dump({"output_dir": str(here / "out"), "stages": stages} | keys))
    return path


def pipeline(base: str, here: Path) -> list[dict]:
    """R1's stages, each of seconds, with checkpoints at every step; what is held out are sums that the base has seen."""
    sums = data.load("arithmetic", template=None, digits=1)
    rows = [{"question": s["prompt"][0]["content"], "answer": f"#### {s['answer']}"} for s in sums]
    (here / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shutil.copy(REPO / "recipes/configs/sft/tiny.yaml", here / "sft.yaml")
    small = {"max_completion_length": 24, "save_steps": 1, "held_out": 20, "held_out_dataset": str(here / "sums.jsonl")}
    sft = small | {"model_name_or_path": base, "per_device_train_batch_size": 8, "max_steps": 6}
    grpo = {"max_completion_length": 24, "dataset_options": {"digits": 1}}
    return [
        {
            "name": "cold_start",
            "recipe": "sft",
            "config": "recipes/configs/sft/tiny.yaml",
            "keys": sft | {"dataset_options": {"digits": 1, "rows": 40}},
        },
        {
            "name": "grpo",
            "recipe": "grpo",
            "config": "recipes/configs/grpo/tiny.yaml",
            "takes": {"model_name_or_path": "cold_start"},
            "keys": small | grpo | {"per_device_train_batch_size": 32, "max_steps": 6, "report_to": "none"},
        },
        {
            "name": "traces",
            "recipe": "sample",
            "config": "recipes/configs/grpo/tiny.yaml",
            "takes": {"model_name_or_path": "grpo"},
            "keys": grpo | {"keep": "accepted", "problems": 30, "samples": 4, "batch_size": 16, "most": 4},
        },
        {
            "name": "sft",
            "recipe": "sft",
            "config": str(here / "sft.yaml"),
            "takes": {"dataset": "traces"},
            "keys": sft,
        },
    ]


@pytest.fixture(scope="module")
def finished(base, tmp_path_factory):
    """A pipeline run from nothing, by the command: its folder, a copy to take back, and what it printed."""
    here = tmp_path_factory.mktemp("pipeline") / "here"
    here.mkdir()
    os.chdir(REPO)
    write(here, pipeline(base, here))
    done = forked.run([sys.executable, "-c", FORKED_STAGES, "--config", here / "r1.yaml"])
    assert done.returncode == 0, done.stderr[-3000:]
    kept = here.with_name("kept")
    shutil.copytree(here, kept)
    return SimpleNamespace(here=here, kept=kept, out=done.stdout)


@pytest.fixture
def here(finished) -> Path:
    """The finished pipeline at its own path, which is in its records, as it was when it was finished."""
    shutil.rmtree(finished.here)
    shutil.copytree(finished.kept, finished.here)
    return finished.here


@pytest.fixture(autouse=True)
def sigterm():
    """recipes.r1 sets its own handler, for its process."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def stages_of(path: Path) -> dict[str, Stage]:
    given = yaml.safe_load(path.read_text())
    return {s["name"]: Stage(**s, folder=Path(given["output_dir"]) / s["name"]) for s in given["stages"]}


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def figures(out: Path, name: str) -> dict:
    """What the stage itself wrote that it measured."""
    summary = read(out / name / ("rows.summary.json" if name == "traces" else "summary.json"))
    measured = summary if name == "traces" else summary["after"]
    return {key: measured[key] for key in (*FIGURES, "mean_length")}


def times(out: Path, *names: str) -> dict:
    """When each file of these stages was written."""
    files = [p for name in names for p in ((out / name).rglob("*"), [out / f"{name}.json"]) for p in p]
    return {str(p): p.stat().st_mtime_ns for p in files if p.is_file()}


def remove(out: Path, *names: str) -> None:
    for name in names:
        shutil.rmtree(out / name)
        (out / f"{name}.json").unlink()
    (out / "summary.json").unlink()


def running(folder: Path | str) -> list[psutil.Process]:
    """The processes of the stage that writes into this folder, whoever started them."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(r1.MARK) == str(Path(folder).resolve()):
                found.append(process)
    return found


def watch(monkeypatch, popen=forked.Popen) -> list[str]:
    """The names of the stages that are started from now on; none is started beside another process of its own."""
    started = []

    def watched(command, env):
        assert not running(env[r1.MARK]), "two processes would write into one folder"
        started.append(Path(env[r1.MARK]).name)
        return popen(command, env=env)

    monkeypatch.setattr(r1, "subprocess", SimpleNamespace(Popen=watched))
    return started


def nothing_runs(monkeypatch) -> None:
    monkeypatch.setattr(r1, "subprocess", SimpleNamespace(Popen=lambda *_, **__: pytest.fail("a process is started")))


def pretended(command, env):
    """In the place of a stage's process: its folder, with the least that it would hold."""
    folder = Path(env[r1.MARK])
    folder.mkdir(exist_ok=True)
    text = json.dumps({"after": {"accuracy": 0.5, "format_rate": 0.25}, "at": time.time_ns()})
    for name in ("summary.json", "rows.jsonl", "rows.summary.json"):
        (folder / name).write_text(text)
    return SimpleNamespace(wait=lambda: 0)


# ---- from nothing, and again


def test_one_run_makes_every_stage_and_sums_them_up(finished):
    out = finished.kept / "out"
    summary = read(out / "summary.json")
    assert [stage["name"] for stage in summary["stages"]] == NAMES and "git_commit" in summary
    for stage in summary["stages"]:
        assert stage.keys() == {"name", *FIGURES, "seconds"} and stage["seconds"] > 0
        assert {key: stage[key] for key in FIGURES} == {key: figures(out, stage["name"])[key] for key in FIGURES}
        assert 0 <= stage["accuracy"] <= 1 and 0 < stage["format_rate"] <= 1
        assert read(out / f"{stage['name']}.json")["seconds"] == stage["seconds"]
        assert f"== {stage['name']}: new\n$ python -m recipes." in finished.out
        assert f"== {stage['name']}: accuracy {stage['accuracy']:.3f}, format rate" in finished.out
    assert summary["stages"][2]["accuracy"] > 0.1, "or the figures that are compared below say little"
    rows = [json.loads(line) for line in (out / "traces" / "rows.jsonl").read_text().splitlines()]
    assert read(out / "sft" / "summary.json")["rows"]["rows"] == len(rows) > 5, "sft is of what was sampled"
    grpo = yaml.safe_load((out / "grpo" / "config.yaml").read_text())
    assert grpo["model_name_or_path"] == str(finished.here / "out" / "cold_start")
    assert not [p for p in out.iterdir() if ".old" in p.name or ".tmp" in p.name]


def test_started_again_it_runs_nothing(here, monkeypatch, capsys):
    nothing_runs(monkeypatch)
    before, summary = times(here / "out", *NAMES), read(here / "out" / "summary.json")
    run_r1("--config", here / "r1.yaml")
    out = capsys.readouterr().out
    assert all(f"== {name}: done already: accuracy" in out for name in NAMES)
    assert times(here / "out", *NAMES) == before and read(here / "out" / "summary.json")["stages"] == summary["stages"]


# ---- killed in the middle of a stage


def begun(folder: Path) -> bool:
    """Whether some of the stage's work is done and kept."""
    parts = [p.read_text().count("\n") > 1 for p in folder.glob("*.part")]
    return any(parts) or any(folder.glob("checkpoint-*/trainer_state.json"))


def wait_until(true, process: subprocess.Popen, what: str) -> None:
    """A guard against hanging, and no more."""
    deadline = time.monotonic() + 300
    while not true():
        assert process.poll() is None and time.monotonic() < deadline, f"it never came to this: {what}"
        time.sleep(0.01)


@pytest.mark.parametrize(
    "name, how", [("cold_start", "stage"), ("grpo", "r1 alone"), ("traces", "SIGTERM"), ("sft", "everything")]
)
def test_killed_in_the_middle_of_a_stage_it_ends_as_if_it_had_not_been(here, finished, monkeypatch, capfd, name, how):
    out, kept, at = here / "out", finished.kept / "out", NAMES.index(name)
    remove(out, *NAMES[at:])
    before = times(out, *NAMES[:at])
    with (here / "log").open("w") as log:
        process = start_r1(here, stdout=log, stderr=log)
    try:
        wait_until(lambda: begun(out / name), process, (here / "log").read_text())
        [stage] = running(out / name)
        if how == "SIGTERM":
            process.terminate()
        elif how == "stage":
            stage.kill()
        else:
            process.kill()
        code = process.wait(timeout=120)
        if how == "everything":
            stage.kill()
            stage.wait(timeout=60)
        assert not stages_of(here / "r1.yaml")[name].result.exists(), "the stage was over: nothing is tested"
        assert not (out / "summary.json").exists()
        assert running(out / name) == ([stage] if how == "r1 alone" else []), "an orphan is left by SIGKILL alone"
        log = (here / "log").read_text()
        if how == "stage":
            assert code == 1 and f"error: stage {name!r} failed: exit code -9" in log, log
        else:
            assert code == {"SIGTERM": 143}.get(how, -signal.SIGKILL), log

        started, only = watch(monkeypatch), ["--only", name] if at == 0 else []  # all of it after the other three
        run_r1("--config", here / "r1.yaml", *only)
        again = capfd.readouterr().out
    finally:
        for left in [*running(out / name), process]:
            left.kill()
            left.wait()
    again_made = [name] if only else NAMES[at:]
    assert started == again_made and times(out, *NAMES[:at]) == before, "what was finished is not redone"
    assert f"== {name}: stopped\n" in again and not list(out.glob("*.old-*"))
    assert ("resuming from" if name == "traces" else f"resuming {out / name} from {out / name}/checkpoint-") in again
    for made in again_made:
        assert figures(out, made) == figures(kept, made), made
        if made == "traces":
            assert (out / made / "rows.jsonl").read_text() == (kept / made / "rows.jsonl").read_text()
        else:
            weights, expected = (load_file(folder / made / "model.safetensors") for folder in (out, kept))
            assert all(torch.equal(weights[k], v) for k, v in expected.items()), made
    if not only:
        summaries = [read(folder / "summary.json")["stages"] for folder in (out, kept)]
        assert [{k: s[k] for k in ("name", *FIGURES)} for s in summaries[0]] == [
            {k: s[k] for k in ("name", *FIGURES)} for s in summaries[1]
        ]


def test_what_an_orphan_finished_is_done(here, monkeypatch, capsys):
    """recipes.r1 was killed, its stage was not: the result is there, whoever measured its seconds."""
    record = read(here / "out" / "sft.json")
    (here / "out" / "sft.json").write_text(json.dumps({"made_from": record["made_from"]}))
    nothing_runs(monkeypatch)
    run_r1("--config", here / "r1.yaml")
    assert "== sft: done already: accuracy" in capsys.readouterr().out
    assert read(here / "out" / "summary.json")["stages"][-1]["accuracy"] == figures(here / "out", "sft")["accuracy"]


def test_an_orphan_that_finishes_while_it_is_looked_for_is_not_set_aside(here, monkeypatch, capsys):
    """Between the look at the stage's folder and the end of its processes, the result appears."""
    result = here / "out" / "sft" / "summary.json"
    result.rename(here / "away")
    started = watch(monkeypatch, pretended)
    monkeypatch.setattr(r1, "end_processes", lambda folder: (here / "away").exists() and (here / "away").rename(result))
    run_r1("--config", here / "r1.yaml")
    assert started == [] and not (here / "out" / "sft.old-1").exists(), "the result is taken as it is"
    assert "== sft: accuracy" in capsys.readouterr().out.replace("done already: ", "")


# ---- what has changed


def test_a_changed_key_makes_the_stage_again_and_what_takes_from_it(here, finished, monkeypatch, capfd):
    out, kept = here / "out", finished.kept / "out"
    stages = yaml.safe_load((here / "r1.yaml").read_text())["stages"]
    stages[2]["keys"]["most"] = 1
    before, started = times(out, "cold_start", "grpo"), watch(monkeypatch)
    run_r1("--config", write(here, stages))
    printed = capfd.readouterr().out
    assert started == ["traces", "sft"] and times(out, "cold_start", "grpo") == before
    assert "== traces: most was 4, is 1\n" in printed and "== sft: dataset (contents) changed\n" in printed
    for name in started:
        assert f"{out / name}/ is now {out / name}.old-1/" in printed
    for name, file in (("traces", "rows.jsonl"), ("sft", "summary.json")):
        assert (out / f"{name}.old-1" / file).read_text() == (kept / name / file).read_text()
    rows = [
        json.loads(line)["prompt"][0]["content"] for line in (out / "traces" / "rows.jsonl").read_text().splitlines()
    ]
    assert len(rows) == len(set(rows)), "one of a prompt"
    assert figures(out, "traces") == figures(kept, "traces"), "all that were sampled are measured"
    assert [stage["name"] for stage in read(out / "summary.json")["stages"]] == NAMES


def test_a_changed_config_file_makes_its_stage_again_and_no_other(here, finished, monkeypatch, capfd):
    config = (here / "sft.yaml").read_text()
    (here / "sft.yaml").write_text(config.replace("learning_rate: 5.0e-4", "learning_rate: 2.0e-3"))
    started, before = watch(monkeypatch), times(here / "out", *NAMES[:3])
    run_r1("--config", here / "r1.yaml")
    out = capfd.readouterr().out
    assert started == ["sft"] and times(here / "out", *NAMES[:3]) == before
    assert "== sft: learning_rate was 0.0005, is 0.002\n" in out and (here / "out" / "sft.old-1").is_dir()
    weights = [load_file(f / "sft" / "model.safetensors") for f in (here / "out", finished.kept / "out")]
    assert not all(torch.equal(weights[0][k], v) for k, v in weights[1].items())


def test_comments_and_order_of_keys_are_no_change(here, monkeypatch, capsys):
    nothing_runs(monkeypatch)
    config = (here / "sft.yaml").read_text()
    (here / "sft.yaml").write_text("# said otherwise\n" + config)
    stages = yaml.safe_load((here / "r1.yaml").read_text())["stages"]
    run_r1("--config", write(here, [dict(reversed(stage.items())) for stage in stages]))
    assert capsys.readouterr().out.count("done already") == 4


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda here, base: (here / "sums.jsonl").write_text("{}\n"), "held_out_dataset (contents) changed"),
        (lambda here, base: (here / "out/traces/rows.jsonl").write_text("{}\n"), "dataset (contents) changed"),
        (lambda here, base: (here / "out/sft/summary.json").unlink(), "stopped"),
        (lambda here, base: (here / "out/sft.json").unlink(), "nothing says what it was made from"),
        (lambda here, base: shutil.rmtree(here / "out/sft"), "new"),
        (lambda here, base: (here / "sft.yaml").write_text("dataset: x\n"), "learning_rate was 0.0005, is None"),
        (lambda here, base: (here / "unnamed.jsonl").write_text("{}\n"), "done"),
    ],
)
def test_the_state_of_a_stage(here, base, change, says):
    stages = stages_of(here / "r1.yaml")
    assert stages["sft"].state(stages) == "done"
    change(here, base)
    assert says in stages["sft"].state(stages)
    assert stages["traces"].state(stages) == "done", "which takes from none of these"


def test_a_rewritten_dataset_is_a_change_whatever_its_size_and_name(tmp_path):
    path = tmp_path / "rows.jsonl"
    keys = {"dataset": str(path), "model_name_or_path": "outputs/none"}
    stage = Stage(name="s", recipe="sft", folder=tmp_path / "s", config="recipes/configs/sft/tiny.yaml", keys=keys)
    made = []
    for text in ("one\n", "two\n", "one\n"):
        path.write_text(text)
        made.append(stage.made_from({}))
    assert made[0] == made[2] != made[1]
    assert {key for key in made[0] if made[0][key] != made[1][key]} == {"dataset (contents)"}


# ---- a stage that fails


def test_a_failing_stage_ends_it_and_what_is_mended_goes_on(here, monkeypatch, capfd):
    out = here / "out"
    stages = yaml.safe_load((here / "r1.yaml").read_text())["stages"]
    (here / "broken.jsonl").write_text('{"prompt": "What is 1 + 2?", "completion": " "}\n' * 8)
    keys = stages[3]["keys"] | {"dataset": str(here / "broken.jsonl")}
    del keys["model_name_or_path"]
    more = {"name": "more", "recipe": "sft", "config": str(here / "sft.yaml"), "keys": keys}
    more["takes"] = {"model_name_or_path": "sft"}
    last = {"name": "last", "recipe": "merge", "takes": {"model_name_or_path": "more"}}
    write(here, [*stages, more, last])
    (out / "summary.json").unlink()
    before, started = times(out, *NAMES), watch(monkeypatch)
    with pytest.raises(SystemExit) as ended:
        run_r1("--config", here / "r1.yaml")
    error = capfd.readouterr().err
    assert (
        ended.value.code == 2 and "error: stage 'more' failed: exit code 2" in error and "no row is left of 8" in error
    )
    assert started == ["more"] and times(out, *NAMES) == before, "no stage after it is begun"
    assert not (out / "summary.json").exists()

    keys["dataset"] = str(out / "traces" / "rows.jsonl")
    run_r1("--config", write(here, [*stages, more]))
    assert started == ["more", "more"] and times(out, *NAMES) == before
    assert [stage["name"] for stage in read(out / "summary.json")["stages"]] == [*NAMES, "more"]


def test_a_process_that_ends_well_without_a_result_has_failed(here, monkeypatch, capfd):
    remove(here / "out", "sft")
    watch(monkeypatch, lambda *_, **__: SimpleNamespace(wait=lambda: 0))
    with pytest.raises(SystemExit) as ended:
        run_r1("--config", here / "r1.yaml")
    assert ended.value.code == 1 and "stage 'sft' failed: there is no" in capfd.readouterr().err
    assert not (here / "out" / "summary.json").exists()


def test_what_was_summed_up_does_not_outlive_its_stages(here, monkeypatch, capfd):
    """The figures of stages that are set aside are nobody's result."""
    stages = yaml.safe_load((here / "r1.yaml").read_text())["stages"]
    stages[2]["keys"]["most"] = 1
    watch(monkeypatch, lambda *_, **__: SimpleNamespace(wait=lambda: 7))
    with pytest.raises(SystemExit) as ended:
        run_r1("--config", write(here, stages))
    assert ended.value.code == 7 and "stage 'traces' failed: exit code 7" in capfd.readouterr().err
    assert (here / "out" / "traces.old-1").is_dir() and not (here / "out" / "summary.json").exists()


# ---- some of the stages; none of them


def commands(text: str) -> dict[str, list[str]]:
    """Stage -> the words of the command that a dry run prints for it, as a shell reads them."""
    lines = text.splitlines()
    return {a.split(":")[0][2:]: shlex.split(b) for a, b in itertools.pairwise(lines) if a.startswith("# ")}


def test_a_dry_run_prints_commands_for_a_shell_and_does_nothing(base, tmp_path, monkeypatch, capsys):
    nothing_runs(monkeypatch)
    stages = pipeline(base, tmp_path)
    stages[1]["keys"] |= {"run_name": 'it\'s $HOME; a "run" & `more`', "reward_options": {"math_answer": {}}}
    path = write(tmp_path, stages)
    before = sorted(tmp_path.rglob("*"))
    run_r1("--config", path, "--dry_run")
    printed = capsys.readouterr().out
    assert sorted(tmp_path.rglob("*")) == before
    told, known = commands(printed), stages_of(path)
    assert list(told) == NAMES and "# cold_start: new\n" in printed and "# sft: after traces\n" in printed
    for name, words in told.items():
        assert words[:3] == ["python", "-m", f"recipes.{known[name].recipe}"] and words == known[name].command(known)
    given = dict(zip(told["grpo"][3::2], told["grpo"][4::2], strict=True))
    assert given["--run_name"] == stages[1]["keys"]["run_name"] and given["--resume_from_checkpoint"] == "true"
    assert json.loads(given["--dataset_options"]) == {"digits": 1}
    assert given["--model_name_or_path"] == given["--output_dir"].replace("grpo", "cold_start")
    assert "--resume_from_checkpoint" not in told["traces"] and told["traces"][-2] == "--output"


def test_a_dry_run_checks_what_trains_and_fails_where_a_run_would(base, tmp_path, monkeypatch, capsys):
    nothing_runs(monkeypatch)
    stages = pipeline(base, tmp_path)
    run_r1("--config", write(tmp_path, stages), "--dry_run")
    told = re.split("^# ", capsys.readouterr().out, flags=re.M)[1:]
    cold_start, grpo, traces, sft = (" ".join(text.split()) for text in told)
    assert "6 optimizer steps" in cold_start and "6 optimizer steps, 192 completions" in grpo
    assert "all pass" in grpo and "GiB a device" in grpo, "on the base, until cold_start has made a model"
    assert "optimizer steps" not in traces and sft.endswith("not checked: its rows aren't made yet")
    stages[1]["launch"] = "accelerate_configs/cpu_zero3.yaml"
    assert "stage 'grpo': held_out=20: ZeRO-3" in refused(capsys, "--config", write(tmp_path, stages), "--dry_run")
    del stages[1]["launch"]
    stages[1]["keys"]["max_completion_length"] = 5000
    path = write(tmp_path, stages)
    with pytest.raises(SystemExit) as ended:
        run_r1("--config", path, "--dry_run")
    out = " ".join(capsys.readouterr().out.split())
    assert ended.value.code == 2 and out.count(" fail lengths ") == 1 and "512 positions" in out
    run_r1("--config", path, "--dry_run", "--only", "cold_start")


def test_a_dry_run_of_what_is_there_says_what_would_be_made_again_and_why(here, monkeypatch, capsys):
    nothing_runs(monkeypatch)
    stages = yaml.safe_load((here / "r1.yaml").read_text())["stages"]
    stages[2]["keys"]["problems"] = 20
    before = times(here / "out", *NAMES)
    run_r1("--config", write(here, stages), "--dry_run")
    out = capsys.readouterr().out
    assert (
        out.count("done already") == 2
        and "# traces: problems was 30, is 20\n" in out
        and "# sft: after traces\n" in out
    )
    assert list(commands(out)) == ["traces", "sft"] and times(here / "out", *NAMES) == before


@pytest.mark.parametrize(
    "argv, started",
    [
        (["--from", "traces"], ["traces", "sft"]),
        (["--from", "cold_start"], NAMES[1:]),
        (["--only", "grpo"], ["grpo"]),
        (["--only", "[traces, grpo]"], ["grpo", "traces"]),
        (["--only", "cold_start"], []),
    ],
)
def test_from_and_only_run_just_those_that_need_to_be(here, monkeypatch, capsys, argv, started):
    remove(here / "out", *NAMES[1:])
    ran = watch(monkeypatch, pretended)
    if argv[-1] == "traces":  # it takes from grpo
        run_r1("--config", here / "r1.yaml", "--only", "grpo")
        ran.clear()
    run_r1("--config", here / "r1.yaml", *argv)
    assert ran == started
    whole = all((here / "out" / name).exists() for name in NAMES)
    assert (here / "out" / "summary.json").exists() == whole, "summed up when every stage is there"


@pytest.mark.parametrize(
    "argv, words",
    [
        (["--only", "traces"], ["'traces'", "'grpo'", "run it too"]),
        (["--from", "traces"], ["'traces'", "'grpo'", "run it too"]),
        (["--only", "[cold_start, sft]"], ["'sft'", "'traces'", "run it too"]),
    ],
)
def test_a_stage_whose_source_is_not_made_is_refused(here, monkeypatch, capsys, argv, words):
    remove(here / "out", *NAMES[1:])
    nothing_runs(monkeypatch)
    line = refused(capsys, "--config", here / "r1.yaml", *argv)
    assert all(word in line for word in words), line
    assert not (here / "out" / "traces").exists()


def test_a_source_that_is_out_of_date_is_as_good_as_none(here, monkeypatch, capsys):
    nothing_runs(monkeypatch)
    stages = yaml.safe_load((here / "r1.yaml").read_text())["stages"]
    stages[2]["keys"]["problems"] = 20
    line = refused(capsys, "--config", write(here, stages), "--only", "sft")
    assert "'sft'" in line and "'traces'" in line and "not up to date" in line


def test_two_at_once_on_one_folder_the_second_is_refused(here, monkeypatch, capsys):
    nothing_runs(monkeypatch)
    with (here / "out" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        line = refused(capsys, "--config", here / "r1.yaml")
        assert str(here / "out") in line and "another recipes.r1" in line
        run_r1("--config", here / "r1.yaml", "--dry_run")  # which writes nothing
    run_r1("--config", here / "r1.yaml")


# ---- what can't work


def good() -> list[dict]:
    return [
        {
            "name": "cold_start",
            "recipe": "sft",
            "config": "recipes/configs/sft/tiny.yaml",
            "keys": {"model_name_or_path": "outputs/none"},
        },
        {
            "name": "zero",
            "recipe": "grpo",
            "config": "recipes/configs/grpo/tiny.yaml",
            "takes": {"model_name_or_path": "cold_start"},
            "keys": {"max_steps": 3},
        },
    ]


@pytest.mark.parametrize(
    "nth, change, argv, words",
    [
        (1, {"confg": "x"}, [], ["stage 2 (zero)", "'confg' is an unknown key", "did you mean 'config'"]),
        (1, {"folder": "x"}, [], ["stage 2 (zero)", "'folder' is an unknown key"]),
        (1, {"recipe": "gpro"}, [], ["stage 2 (zero)", "recipe='gpro'", "did you mean 'grpo'"]),
        (1, {"recipe": "r1"}, [], ["recipe='r1'"]),
        (1, {"recipe": None}, [], ["recipe=None"]),
        (1, {"name": "cold_start"}, [], ["stage 2 (cold_start)", "no other stage's"]),
        (1, {"name": "a/b"}, [], ["stage 2 (a/b)", "letters, digits"]),
        (1, {"name": ".."}, [], ["stage 2 (..)", "letters, digits"]),
        (1, {"name": ""}, [], ["stage 2 ()", "letters, digits"]),
        (1, {"name": 7}, [], ["stage 2 (7)", "letters, digits"]),
        (1, {"name": None}, [], ["stage 2 (None)", "letters, digits"]),
        (1, {"name": "summary"}, [], ["stage 2 (summary)"]),  # its record would be the pipeline's summary.json
        (0, {"takes": {"dataset": "zero"}}, [], ["stage 1 (cold_start)", "'zero'", "no stage before it"]),
        (1, {"takes": {"dataset": "zero"}}, [], ["stage 2 (zero)", "'zero'", "no stage before it"]),
        (1, {"takes": {"dataset": "cold_strat"}}, [], ["'cold_strat'", "did you mean 'cold_start'"]),
        (1, {"takes": {"datast": "cold_start"}}, [], ["stage 'zero'", "datast is an unknown key", "'dataset'"]),
        (1, {"takes": "cold_start"}, [], ["stage 2 (zero)", "takes"]),
        (1, {"keys": {"model_name_or_path": "x"}}, [], ["zero", "model_name_or_path is in takes and in keys"]),
        (1, {"keys": {"output_dir": "x"}}, [], ["zero", "output_dir"]),  # it is the stage's folder
        (1, {"keys": ["max_steps"]}, [], ["stage 2 (zero)", "keys"]),
        (1, {"keys": {"max_stepz": 3}}, [], ["stage 'zero'", "max_stepz is an unknown key", "'max_steps'"]),
        (1, {"keys": {"max_steps": "ten"}}, [], ["stage 'zero'", "max_steps='ten'", "int"]),
        (1, {"keys": {"template": "plane"}}, [], ["stage 'zero'", "template='plane'"]),
        (1, {"keys": {"rewards": {"math_anwser": 1}}}, [], ["stage 'zero'", "'math_anwser'", "'math_answer'"]),
        (1, {"keys": {"rewards": {"overlong": 1}}}, [], ["stage 'zero'", "overlong: max_length=0"]),
        (1, {"keys": {"dataset": "arithmetik"}}, [], ["stage 'zero'", "'arithmetik'", "'arithmetic'"]),
        (1, {"keys": {"dataset_options": {"digts": 2}}}, [], ["stage 'zero'", "'digts'", "'digits'"]),
        (0, {"keys": {"held_out_dataset": "gsm9k"}}, [], ["stage 'cold_start'", "'gsm9k'", "'gsm8k'"]),
        (1, {"config": "recipes/configs/grpo/tinny.yaml"}, [], ["stage 'zero'", "recipes/configs/grpo/tiny.yaml"]),
        (1, {"config": 7}, [], ["stage 2 (zero)", "config"]),
        (1, {"config": None}, [], ["stage 'zero'", "dataset is not set"]),
        (1, {"launch": "accelerate_configs/zero9.yaml"}, [], ["accelerate_configs/zero9.yaml"]),
        (1, {"launch": "CHANGELOG.md"}, [], ["launch='CHANGELOG.md'", "isn't an accelerate config"]),
        (1, {"keys": {"per_device_train_batch_size": 12}}, [], ["stage 'zero'", "num_generations=8", "12 completions"]),
        (1, {}, ["--from", "zeros"], ["--from zeros", "did you mean 'zero'"]),
        (1, {}, ["--only", "zeros"], ["--only zeros", "did you mean 'zero'"]),
        (1, {}, ["--only", "[zero, cold]"], ["--only cold"]),
        (1, {}, ["--from", "zero", "--only", "zero"], ["--from and --only"]),
        (1, {}, ["--form", "zero"], ["form is an unknown key", "'from_'"]),
        (1, {}, ["--launch", "nowhere.yaml"], ["nowhere.yaml"]),
    ],
)
def test_a_pipeline_that_can_not_work_is_refused_in_one_line(tmp_path, monkeypatch, capsys, nth, change, argv, words):
    nothing_runs(monkeypatch)
    stages = good()
    stages[nth] |= change
    line = refused(capsys, "--config", write(tmp_path, stages), *argv)
    assert all(word in line for word in words), line
    assert not (tmp_path / "out").exists()


def test_no_stages_are_no_pipeline(tmp_path, capsys):
    assert "stages" in refused(capsys, "--config", write(tmp_path, []))
    assert not (tmp_path / "out").exists()


# ---- several processes


def test_a_stage_is_launched_as_its_file_says(tmp_path, monkeypatch, capsys):
    """4 completions a process, in groups of 8: right for two processes, and for them alone."""
    nothing_runs(monkeypatch)
    monkeypatch.setenv("WORLD_SIZE", "3")
    stages = good()
    stages[1]["keys"]["per_device_train_batch_size"] = 4
    line = refused(capsys, "--config", write(tmp_path, stages), "--dry_run")
    assert "num_generations=8" in line and "4 per device x 1 processes" in line
    stages[1]["launch"] = "accelerate_configs/cpu_zero2.yaml"
    with pytest.raises(SystemExit):  # the model isn't there
        run_r1("--config", write(tmp_path, stages), "--dry_run")
    told = commands(capsys.readouterr().out)
    start = ["accelerate", "launch", "--config_file", "accelerate_configs/cpu_zero2.yaml", "-m", "recipes.grpo"]
    assert told["cold_start"][:3] == ["python", "-m", "recipes.sft"] and told["zero"][:6] == start
    stages[1]["keys"]["per_device_train_batch_size"] = 6
    line = refused(capsys, "--config", write(tmp_path, stages), "--dry_run")
    assert "the 12 completions" in line and "6 per device x 2 processes" in line
    assert os.environ["WORLD_SIZE"] == "3"


def test_one_launch_file_for_all_stages_but_those_of_one_process(tmp_path, monkeypatch, capsys):
    nothing_runs(monkeypatch)
    merged = {"name": "merged", "recipe": "merge", "takes": {"model_name_or_path": "zero"}}
    stages = [*good(), merged]
    stages[1]["launch"] = "accelerate_configs/single_gpu.yaml"
    with pytest.raises(SystemExit):  # the model isn't there
        run_r1("--config", write(tmp_path, stages, launch="accelerate_configs/cpu_zero2.yaml"), "--dry_run")
    told = commands(capsys.readouterr().out)
    assert told["cold_start"][3] == "accelerate_configs/cpu_zero2.yaml"
    assert told["zero"][3] == "accelerate_configs/single_gpu.yaml", "a stage's own wins"
    assert told["merged"][:3] == ["python", "-m", "recipes.merge"]


def test_a_changed_launch_file_is_a_change(tmp_path):
    launch = tmp_path / "launch.yaml"
    stage = Stage(
        name="s", folder=tmp_path / "s", launch=str(launch), **{k: v for k, v in good()[0].items() if k != "name"}
    )
    made = []
    for processes in (1, 2):
        launch.write_text(f"distributed_type: MULTI_CPU\nnum_processes: {processes}\n")
        made.append(stage.made_from({}))
    assert {key for key in made[0] if made[0][key] != made[1][key]} == {"launch (contents)"}


# ---- what the repository holds


@pytest.mark.parametrize("path", PIPELINES, ids=lambda p: p.stem)
def test_every_pipeline_adds_up(path, tmp_path, monkeypatch, capsys):
    nothing_runs(monkeypatch)
    with contextlib.suppress(SystemExit):
        run_r1("--config", path.relative_to(REPO), "--output_dir", tmp_path / "out", "--dry_run")
    out = capsys.readouterr().out
    # a base that the config's first lines tell how to make may not be there
    failing = [line.split()[1:3] for line in out.splitlines() if line.startswith("fail ")]
    assert all(what == "tokens" and why.startswith("model_name_or_path=") for what, why in failing), out
    names = [stage["name"] for stage in yaml.safe_load(path.read_text())["stages"]]
    assert list(commands(out)) == names and len(names) > 1
    assert path.read_text().count("Launch: python -m recipes.r1 --config") == 1 and not (tmp_path / "out").exists()


def test_there_are_pipelines():
    assert {"tiny", "smollm2-135m-word-sums"} <= {path.stem for path in PIPELINES}
