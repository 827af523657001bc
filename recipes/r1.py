"""DeepSeek-R1's sequence of stages (arXiv 2501.12948, section 2.3) from one YAML file, each stage a recipe of its own.

A stage is the command that anyone could type, through `launch` if there is one. Its result is in <output_dir>/<stage>/, and
<stage>.json next to it keeps what that was made from: every key of its merged config, and a digest of each file or folder that
they name. A stage whose result is there, and would be made from the same, is skipped; one that was stopped resumes; one
whose inputs changed is run again, its old folder renamed. The code isn't an input, but its commit is in each summary.json:
to run a finished stage again, remove its folder.

stages:
  - {name: cold_start, recipe: sft, config: <yaml>}
  - {name: zero, recipe: grpo, config: <yaml>, takes: {model_name_or_path: cold_start}, keys: {max_steps: 100}}

Run: python -m recipes.r1 --config recipes/configs/r1/tiny.yaml [--dry_run] [--from STAGE] [--only STAGE]
"""

import contextlib
import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path

import psutil  # finds what a killed run left running; accelerate needs it too

from recipes.pipeline.stage import RECIPES, Stage
from recipes.preflight.entry import start
from recipes.preflight.questions import show
from recipes.shared.run_config import TRAINING, RunConfig, nearest
from recipes.shared.run_folder import SUMMARY, provenance, write_atomically, write_summary
from recipes.shared.terminal import refusing, say

MARK = "R1_RECIPES_STAGE"  # in the environment of all of a stage's processes: the folder that they write into
STOP_S = 30.0  # for processes to end by themselves
KEYS = [f.name for f in fields(Stage) if f.name != "folder"]


@dataclass(kw_only=True)
class R1:
    stages: list[dict] = field(metadata={"help": f"in their order, each of the keys {', '.join(KEYS)}"})
    output_dir: str = field(metadata={"help": "where each stage has its folder"})
    launch: str | None = field(
        default=None, metadata={"help": "an accelerate config for all stages; null: one process"}
    )
    dry_run: bool = field(
        default=False, metadata={"help": "print the commands that would be run, check each, and run none"}
    )
    from_: str | None = field(default=None, metadata={"help": "run this stage and those after it, if they need to be"})
    only: list[str] | None = field(default=None, metadata={"help": "run these stages, if they need to be"})


def problems(config: RunConfig) -> Iterator[str]:
    """A list of stages that can't work, found before any of them runs."""
    stages = config["stages"]
    if not stages:
        yield "stages is empty: name at least one"
    names = []
    for n, stage in enumerate(stages, 1):
        yield from (f"stage {n} ({stage.get('name')}): {problem}" for problem in stage_problems(stage, names))
        names.append(stage.get("name"))
    start_at, only = config["from_"], config["only"] or []
    for option, chosen in (("from", [start_at] if start_at else []), ("only", only)):
        for unknown in [name for name in chosen if name not in names]:
            yield f"--{option} {unknown}: there is no such stage: {nearest(unknown, map(str, names))}"
    if start_at and only:
        yield "--from and --only: say one of them"


def stage_problems(stage: dict, before: list[str]) -> Iterator[str]:
    """What is wrong with one stage, which comes after those of these names."""
    name, recipe = stage.get("name"), stage.get("recipe")
    for unknown in [key for key in stage if key not in KEYS]:
        yield f"{unknown!r} is an unknown key: {nearest(str(unknown), KEYS)}"
    wanted = {"takes": dict, "keys": dict, "config": str, "launch": str}
    if wrong := [k for k, kind in wanted.items() if stage.get(k) is not None and not isinstance(stage[k], kind)]:
        yield from (f"{key}={stage[key]!r} isn't a {wanted[key].__name__}" for key in wrong)
        return
    takes, keys = stage.get("takes") or {}, stage.get("keys") or {}
    plain = isinstance(name, str) and name.replace("_", "").replace("-", "").isalnum()
    if not plain or name == "summary" or name in before:
        yield "a name is the stage's folder: letters, digits, _ and -, and no other stage's"
    if recipe not in RECIPES:
        yield f"recipe={recipe!r}: {nearest(str(recipe), RECIPES)}"
    for key, source in takes.items():
        if not isinstance(source, str):
            yield f"{key}={source!r} isn't a str"
        elif source not in before:
            yield f"takes {key} from {source!r}, no stage before it: {nearest(source, before)}"
        if key in keys:
            yield f"{key} is in takes and in keys"
    for key in ("output", "output_dir", "resume_from_checkpoint"):
        if key in takes | keys:
            yield f"{key} is set by the stage's name: leave it out"


def main(args: R1, _config: RunConfig) -> None:
    out, names = Path(args.output_dir), [s["name"] for s in args.stages]
    chosen = args.only or names[names.index(args.from_) if args.from_ else 0 :]
    with refusing(), contextlib.ExitStack() as held:
        given = [
            {"launch": args.launch} | {k: v for k, v in s.items() if v is not None or k == "launch"}
            for s in args.stages
        ]
        stages = {s["name"]: Stage(**s, folder=out / s["name"]) for s in given}
        for stage in stages.values():
            stage.made_from(stages)  # refused now, not after hours
        if not args.dry_run:
            held.enter_context(only_one(out))
        unmade, failing = set(), False  # stages whose result is not what it will be
        for name, stage in stages.items():
            after = sorted(unmade & set(stage.takes.values()))
            state = f"after {' and '.join(after)}" if after else stage.state(stages)
            if state == "done":
                say(f"== {name}: done already: {describe(stage)}")
            elif name not in chosen or args.dry_run:
                unmade.add(name)
                say(
                    f"# {name}: {state}\n{shlex.join(stage.command(stages))}"
                    if name in chosen
                    else f"# {name}: left out"
                )
                if args.dry_run and name in chosen and stage.recipe in TRAINING:
                    failing |= look(stage, stages, unmade)
            elif after:
                raise ValueError(
                    f"stage {name!r} takes the result of {after[0]!r}, which isn't made or not up to date: run it too"
                )
            else:
                say(f"\n== {name}: {state}")
                run_stage(stage, stages)
                say(f"== {name}: {describe(stage)}")
        if not unmade and not args.dry_run:
            result = {"stages": [{"name": name} | stage.figures() for name, stage in stages.items()]}
            write_summary(args.output_dir, result | provenance())
            say(f"\n{len(stages)} stages are done: {out / SUMMARY}")
    if failing:
        sys.exit(2)


def look(stage: Stage, stages: dict[str, Stage], unmade: set[str]) -> bool:
    """Print what recipes.check finds of a stage, but for what is as it should be and says no more. Returns whether it fails."""
    found = stage.examined(stages, unmade - {stage.name})
    if found is None:
        print("not checked: its rows aren't made yet")
        return False
    found.lines = [f for f in found.lines if f[0] != "pass" or f[1] in ("length", "memory", "disk")]
    show(found, as_json=False)
    return any(status == "fail" for status, _, _ in found.lines)


def run_stage(stage: Stage, stages: dict[str, Stage]) -> None:
    """The stage's command, to its end. Ends this program when it fails; the same command then resumes from there."""
    end_processes(stage.folder)
    if (state := stage.state(stages)) == "done":
        return  # by a process that a killed recipes.r1 had left
    if state not in ("new", "stopped"):
        say(f"{stage.folder}/ is now {stage.set_aside()}/")
    stage.folder.with_name(SUMMARY).unlink(missing_ok=True)  # its figures are no longer the pipeline's
    record = json.loads(stage.record.read_text()) if state == "stopped" else {"made_from": stage.made_from(stages)}
    write_atomically(stage.record, json.dumps(record, indent=2) + "\n")
    command = stage.command(stages)
    print(f"$ {shlex.join(command)}", flush=True)
    launched = ["-m", "accelerate.commands.launch", *command[2:]] if stage.launch else command[1:]
    start, spent = time.perf_counter(), record.get("seconds", 0.0)
    try:
        environment = os.environ | {MARK: str(stage.folder.resolve())}
        code = subprocess.Popen([sys.executable, *launched], env=environment).wait()
    finally:
        end_processes(stage.folder)
        record["seconds"] = round(spent + time.perf_counter() - start, 1)
        write_atomically(stage.record, json.dumps(record, indent=2) + "\n")
    if code or not stage.result.exists():
        why = f"exit code {code}" if code else f"there is no {stage.result}"
        print(f"error: stage {stage.name!r} failed: {why}", file=sys.stderr, flush=True)
        sys.exit(code if code > 0 else 1)


def end_processes(folder: Path) -> None:
    """End what runs of a stage, under whatever launcher: a killed recipes.r1 leaves it behind, and two would write at once."""
    mine = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == str(folder.resolve()):
                mine.append(process)
    for process in mine:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    for process in psutil.wait_procs(mine, STOP_S)[1]:
        with contextlib.suppress(psutil.Error):
            process.kill()


@contextlib.contextmanager
def only_one(out: Path):
    """Raises ValueError when another process runs the stages of this folder. SIGTERM then ends this one in good order."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"output_dir={str(out)!r}: another recipes.r1 runs its stages") from error
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        yield


def describe(stage: Stage) -> str:
    figures = stage.figures()
    shares = [
        f"{key.replace('_', ' ')} {figures[key]:.3f}" for key in ("accuracy", "format_rate") if figures[key] is not None
    ]
    return ", ".join([*shares, *([f"{figures['seconds']:.0f} s"] if figures["seconds"] is not None else [])])


if __name__ == "__main__":
    start("r1", main, problems, __doc__)
