"""The folder of a run: who may use it, resuming from its last complete checkpoint, training to the end, the summary."""

import contextlib
import json
import os
import platform
import re
import shutil
import subprocess
import time
import uuid
import zipfile
from importlib.metadata import version
from pathlib import Path

import yaml
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from transformers import TrainerCallback, TrainerState

from recipes.shared.interruption import Interruption, disk_is_full
from recipes.shared.run_config import RunConfig
from recipes.shared.terminal import refusing, say
from rewards import RewardError

REPO = Path(__file__).resolve().parents[2]
CONFIG, LAUNCH, SUMMARY = "config.yaml", "launch.json", "summary.json"
# keys that may differ between a run and its continuation: they change what is written down, when to stop, where vLLM's server
# is or how much memory vLLM has, not what is learned
FREE_TO_CHANGE = {
    "resume_from_checkpoint", "output_dir", "run_name", "report_to", "max_steps", "num_train_epochs",
    "save_steps", "save_total_limit", "logging_steps", "disable_tqdm", "completions_to_log",
    "vllm_server_base_url", "vllm_server_host", "vllm_server_port", "vllm_server_timeout", "vllm_group_port",
    "vllm_gpu_memory_utilization", "vllm_enable_sleep_mode",
}  # fmt: skip
# what a run that never took a step has left
BEFORE_A_STEP = {LAUNCH, "reward_model.json", "completions.jsonl", "wandb", "wandb_run_id"}
SHARED_WITHIN_S = 60.0  # NFS remembers for half a minute and more that a file wasn't there
# the files of a checkpoint that aren't the model's
ONLY_TO_RESUME = r"optimizer|scheduler|scaler|rng_state|trainer_state|latest|zero_to_"


def open_run(training_args, config: RunConfig) -> str | None:
    """Make the run's folder, and return the checkpoint to resume from, if any. Raises ValueError, as `refuse` does.

    Only an incomplete checkpoint, of a run that was killed while it wrote it, is removed. With `resume_from_checkpoint: true`
    a run without a complete checkpoint starts from the beginning.
    """
    folder, resume = Path(training_args.output_dir), training_args.resume_from_checkpoint
    resume = None if str(resume).lower() in ("none", "false") else str(resume)
    settings = {k: v for k, v in config.given.items() if k not in ("resume_from_checkpoint", "output_dir", "run_name")}
    # the batch is num_processes times the per-device one; a checkpoint that was sharded in one way can't be read in another
    launch = {"num_processes": config.launch.processes, "sharding": config.launch.sharding}
    occupied = refuse(folder, resume, settings | launch)
    checkpoint = last_checkpoint(folder, resume) if occupied else None
    PartialState().wait_for_everyone()  # nobody writes before everybody has looked
    if PartialState().is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / LAUNCH, json.dumps(launch) + "\n")
        _provisional(folder).write_text(yaml.safe_dump(settings, sort_keys=False))
    if occupied:
        claim(folder)
        say(
            f"resuming {folder} from {checkpoint}"
            if checkpoint
            else f"{folder}: no complete checkpoint, from the beginning"
        )
    return checkpoint


def claim(folder: Path) -> None:
    """Make the folder the run's for good, once it has taken a step: until then it leaves nothing in the way of another try."""
    if PartialState().is_main_process and _provisional(folder).exists():
        os.replace(_provisional(folder), folder / CONFIG)


def _provisional(folder: Path) -> Path:
    return folder / f"{CONFIG}.tmp"


class Claim(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        claim(Path(args.output_dir))


def refuse(folder: Path, resume: str | None, settings: dict) -> bool:
    """Whether the folder holds this very run already. Raises ValueError where it can't be used.

    It can't when it holds anything else, or the run itself while `resume` is None, or isn't there while `resume` names a
    checkpoint, or isn't the same folder on every machine.
    """
    check_shared(folder)
    if resume is not None and resume.lower() != "true" and not folder.is_dir():
        raise ValueError(f"resume_from_checkpoint={resume!r}: output_dir={str(folder)!r} holds no run to resume")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"output_dir={str(folder)!r} is a file: name a folder")
    if not folder.is_dir() or all(p.name in BEFORE_A_STEP or p.name.endswith(".tmp") for p in folder.iterdir()):
        return False
    if resume is None:
        state = "a finished" if (folder / SUMMARY).exists() else "an unfinished"
        content = f"{state} run" if (folder / CONFIG).exists() else "other files"
        raise ValueError(
            f"output_dir={str(folder)!r} already holds {content}: continue it with --resume_from_checkpoint true, or "
            "name another --output_dir (nothing is ever deleted for you)"
        )
    if not (folder / CONFIG).is_file():
        raise ValueError(f"output_dir={str(folder)!r} holds other files, and no run to resume: name another folder")
    before = yaml.safe_load((folder / CONFIG).read_text()) | json.loads((folder / LAUNCH).read_text())
    changed = [k for k in {**before, **settings} if before.get(k) != settings.get(k) and k not in FREE_TO_CHANGE]
    if changed:
        differences = "; ".join(f"{k} was {before.get(k)!r}, is {settings.get(k)!r}" for k in sorted(changed))
        raise ValueError(f"output_dir={str(folder)!r} holds another run ({differences}): name another --output_dir")
    return True


def check_shared(folder: Path) -> None:
    """Refuse a folder that isn't the same one on every machine, on all of them. Raises ValueError.

    Each process writes its own part of a checkpoint. On separate disks no machine would ever hold a complete one, and the
    main process would mistake the parts that it sees for what a killed run left, and remove them.
    """
    if PartialState().num_processes == 1:
        return
    above = next(p for p in (folder.resolve(), *folder.resolve().parents) if p.is_dir())
    (sign,) = broadcast_object_list([above / f"{uuid.uuid4().hex}.tmp"])
    if PartialState().is_main_process:
        sign.touch()
    PartialState().wait_for_everyone()
    give_up = time.monotonic() + SHARED_WITHIN_S
    while not (seen := sign.exists()) and time.monotonic() < give_up:
        time.sleep(0.1)
    blind = [machine for machine, sees in gather_object([(platform.node(), seen)]) if not sees]
    if PartialState().is_main_process:
        sign.unlink()
    if blind:
        raise ValueError(
            f"output_dir={str(folder)!r} is not one folder for all machines: {blind[0]} doesn't see what the main process "
            f"wrote to {sign.parent}; name a folder on a file system that they share"
        )


def last_checkpoint(folder: Path, resume: str) -> str | None:
    """The last complete checkpoint of a run, or the one named, which must be the last too. Incomplete ones are removed."""
    steps = {int(m[1]): p for p in folder.iterdir() if (m := re.fullmatch(r"checkpoint-(\d+)", p.name))}
    complete = {n: p for n, p in steps.items() if is_complete(p)}
    last = complete[max(complete)] if complete else None
    if resume.lower() != "true" and (last is None or Path(resume).resolve() != last.resolve()):
        raise ValueError(
            f"resume_from_checkpoint={resume!r} is not the last complete checkpoint of {str(folder)!r}, which is {last}: use "
            "true, or move later checkpoints away (they would be overwritten)"
        )
    PartialState().wait_for_everyone()
    if PartialState().is_main_process:
        for broken in set(steps.values()) - set(complete.values()):
            print(f"removing {broken}: the run was killed while writing it", flush=True)
            shutil.rmtree(broken)
    return str(last) if last else None


def is_complete(checkpoint: Path) -> bool:
    """Whether a checkpoint was written to its end: the Trainer writes trainer_state.json after everything else of its own.

    Other processes may then still be at theirs, of which the state of their random numbers is the last; torch writes a zip
    file, whose directory is at its end. DeepSpeed's parts are there before: it waits for everyone's.
    """
    with contextlib.suppress(OSError, ValueError, KeyError):
        state = json.loads((checkpoint / "trainer_state.json").read_text())
        processes = PartialState().num_processes
        ranks = [checkpoint / f"rng_state_{r}.pth" for r in range(processes)] if processes > 1 else []
        return state["global_step"] == int(checkpoint.name.split("-")[-1]) and all(map(zipfile.is_zipfile, ranks))
    return False


def train_and_save(trainer, checkpoint: str | None) -> float:
    """Train to the end, save model and tokenizer into output_dir, and return the seconds that training took here.

    A reward that breaks its contract, a full disk, and rows too few for a step end the program with one line; a signal to stop
    ends it in a checkpoint.
    """
    start, folder = time.perf_counter(), Path(trainer.args.output_dir)
    if checkpoint is not None and _is_over(trainer.args, Path(checkpoint)):
        # killed after its last step: the Trainer would take one more, so what the checkpoint holds is the result
        trainer.state = TrainerState.load_from_json(str(Path(checkpoint) / "trainer_state.json"))
        if PartialState().is_main_process:
            for file in Path(checkpoint).iterdir():
                if file.is_file() and not re.match(ONLY_TO_RESUME, file.name):
                    shutil.copy2(file, folder)
    else:
        trainer.add_callback(Claim())
        trainer.add_callback(RateOfTheStep())
        with refusing(RewardError), disk_is_full(folder), Interruption.watched(trainer):
            trainer.train(resume_from_checkpoint=checkpoint)
        with refusing():
            if trainer.state.global_step == 0:
                raise ValueError(
                    f"no step was taken: {len(trainer.train_dataset)} rows don't fill one: lower per_device_train_batch_size or "
                    "gradient_accumulation_steps, or add rows"
                )
        with disk_is_full(folder):
            trainer.save_model(str(folder))
    PartialState().wait_for_everyone()  # the other processes may read what the first one wrote
    return round(time.perf_counter() - start, 1)


class RateOfTheStep(TrainerCallback):
    """A run that is resumed to go on for longer would take its first step at the last rate of the shorter one, such as 0."""

    def on_train_begin(self, args, state, control, lr_scheduler=None, optimizer=None, **kwargs):
        scheduler = getattr(lr_scheduler, "scheduler", lr_scheduler)
        if state.global_step and hasattr(scheduler, "lr_lambdas"):
            parts = zip(scheduler.base_lrs, scheduler.lr_lambdas, optimizer.param_groups, strict=True)
            for rate, at, group in parts:
                group["lr"] = rate * at(scheduler.last_epoch)
            scheduler._last_lr = [group["lr"] for group in optimizer.param_groups]  # what is logged


def _is_over(training_args, checkpoint: Path) -> bool:
    state = json.loads((checkpoint / "trainer_state.json").read_text())
    if training_args.max_steps > 0:
        return state["global_step"] >= training_args.max_steps
    return state["epoch"] >= training_args.num_train_epochs


def write_summary(folder: str, summary: dict) -> None:
    """The run's summary.json, written last and at once: where it is, the run is finished."""
    if PartialState().is_main_process:
        write_atomically(Path(folder) / SUMMARY, json.dumps(summary, indent=2) + "\n")


def write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def provenance() -> dict:
    """What a figure has to be traced back to: the commit ("-dirty" when files differ from it) and the versions."""
    commit = None
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        run = {"cwd": REPO, "capture_output": True, "text": True, "check": True}
        commit = subprocess.run(["git", "rev-parse", "HEAD"], **run).stdout.strip()
        commit += "-dirty" if subprocess.run(["git", "status", "--porcelain", "-uno"], **run).stdout.strip() else ""
    packages = ("torch", "transformers", "trl", "peft", "accelerate", "datasets")
    return {"git_commit": commit, "versions": {p: version(p) for p in packages}}
