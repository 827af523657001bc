"""What a run shows and keeps: a progress bar, sampled completions, W&B."""

import itertools
import json
import math
import os
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from dataclasses import asdict
from pathlib import Path

from accelerate import PartialState
from transformers import PrinterCallback, ProgressCallback, TrainerCallback
from trl.extras.profiling import ProfilingContext

from recipes.shared import run_folder
from rewards._text import text_of

WANDB_REACH_S = 5.0
WANDB_TABLE_EVERY = 10  # logged steps: each addition to an incremental table is a file and an artifact of its own


def prepare_wandb(training_args) -> None:
    """Point W&B at the run's folder, and to its offline mode when it has no key or no network; never ask, never hang.

    The run id is kept in the folder, so that a resumed run continues the same W&B run.
    """
    if "wandb" not in training_args.report_to or not PartialState().is_main_process:
        return
    import wandb

    folder = Path(training_args.output_dir)
    kept = folder / "wandb_run_id"
    if not kept.exists():
        run_folder.write_atomically(kept, uuid.uuid4().hex[:8])
    os.environ.setdefault("WANDB_RUN_ID", kept.read_text())
    os.environ.setdefault("WANDB_RESUME", "allow")
    os.environ.setdefault("WANDB_PROJECT", "r1-recipes")
    os.environ.setdefault("WANDB_DIR", str(folder))
    mode = os.environ.get("WANDB_MODE", "online")
    reason = "WANDB_MODE says so" if mode == "offline" else why_offline(wandb) if mode == "online" else None
    if reason:
        os.environ["WANDB_MODE"] = "offline"
        os.environ.setdefault("WANDB_SILENT", "true")  # else it warns, five times, that an offline run has no address
        wandb.teardown()  # it has read the environment already, to tell its address
        print(f"W&B: {reason}: logging offline; to send it later: wandb sync {folder}/wandb/offline-run-*", flush=True)


def why_offline(wandb) -> str | None:
    """Why an online run can't be had, or None when it can."""
    address = wandb.setup().settings.base_url
    reached = threading.Event()

    def reach():
        try:
            urllib.request.urlopen(address, timeout=WANDB_REACH_S)
        except urllib.error.HTTPError:
            pass  # it answered
        except (OSError, ValueError):
            return
        reached.set()

    # a thread, because a name lookup doesn't support a timeout
    thread = threading.Thread(target=reach, daemon=True)
    thread.start()
    thread.join(WANDB_REACH_S)
    if not reached.is_set():
        return f"{address} can't be reached"
    try:
        return None if wandb.login(prompt=False) else "no API key"
    except wandb.errors.AuthenticationError as error:
        return f"the API key was refused ({str(error).splitlines()[0]})"


class Progress(TrainerCallback):
    """A progress bar on a terminal, a line now and then elsewhere, both with the metrics that matter."""

    def __init__(self, metrics: dict[str, str]):
        self.metrics = metrics  # what to call it -> its key in the logs
        self.bar = ProgressCallback() if sys.stderr.isatty() else None

    @classmethod
    def replace(cls, trainer, metrics: dict[str, str]) -> None:
        """Put this in the place of the trainer's own progress callbacks."""
        trainer.remove_callback(ProgressCallback)
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(cls(metrics))

    def on_train_begin(self, args, state, control, **kwargs):
        self.start, self.next_line = time.perf_counter(), 0
        if self.bar:
            self.bar.on_train_begin(args, state, control, **kwargs)

    def on_step_end(self, args, state, control, **kwargs):
        if self.bar:
            self.bar.on_step_end(args, state, control, **kwargs)

    def on_log(self, args, state, control, logs=None, **kwargs):
        shown = {name: float(logs[key]) for name, key in self.metrics.items() if logs.get(key) is not None}
        if not state.is_world_process_zero or not shown:
            return
        text = "  ".join(
            f"{name} {value:.3g}" if value >= 10 else f"{name} {value:.3f}" for name, value in shown.items()
        )
        if self.bar:
            self.bar.training_bar.set_postfix_str(text)
        elif state.global_step >= self.next_line or state.global_step == state.max_steps:
            seconds = time.perf_counter() - self.start
            print(f"step {state.global_step:>5}/{state.max_steps}  {text}  {seconds:.0f} s", flush=True)
            self.next_line = state.global_step + max(1, math.ceil(state.max_steps / 20))

    def on_train_end(self, args, state, control, **kwargs):
        if self.bar:
            self.bar.on_train_end(args, state, control, **kwargs)


class Rollouts(TrainerCallback):
    """Some completions of every rollout to completions.jsonl, and those of logged steps to a W&B table that keeps them all."""

    def __init__(self, trainer, per_step: int):
        self.trainer, self.per_step, self.table = trainer, per_step, None
        self.path = Path(trainer.args.output_dir) / "completions.jsonl"
        self.latest, self.waiting, self.written = [], [], None

    def on_train_begin(self, args, state, control, **kwargs):
        """On resume, drop what was written after the checkpoint: those steps are about to be taken again."""
        if state.is_world_process_zero and self.path.exists():
            # not splitlines(): a completion may hold other line separators, which JSON leaves as they are
            lines = self.path.read_text(encoding="utf-8").split("\n")
            kept = [line for line in lines if line and _step_of(line) <= state.global_step]
            run_folder.write_atomically(self.path, "".join(line + "\n" for line in kept))

    def on_step_end(self, args, state, control, **kwargs):
        if not state.is_world_process_zero:
            return
        logs = self.trainer._logs  # the rollouts of the last generation; TRL is pinned, and offers no other way to them
        if (sampled := state.num_input_tokens_seen) == self.written:
            return  # one rollout may be for several steps
        n, self.written = len(logs["prompt"]), sampled
        chosen = range(0, n, max(1, math.ceil(n / self.per_step)))
        self.latest = [
            {
                "step": state.global_step,
                "prompt": _in_words(logs["prompt"][i]),
                "completion": text_of(logs["completion"][i]),
                "rewards": {name: _finite(values[i]) for name, values in logs["rewards"].items()},
            }
            | ({"advantage": round(logs["advantages"][i], 4)} if logs["advantages"] else {})
            for i in chosen
        ]
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in self.latest)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if state.is_world_process_zero and "wandb" in args.report_to and "reward" in (logs or {}):
            self.waiting.append(self.latest)
            if len(self.waiting) == WANDB_TABLE_EVERY:
                self.log_table(state.global_step)

    def on_train_end(self, args, state, control, **kwargs):
        if self.waiting:
            self.log_table(state.global_step)

    def log_table(self, step: int) -> None:
        import wandb

        if self.table is None:
            # TRL logs a new table under one key, of which only the last is shown; an incremental one keeps every step
            columns = ["step", "prompt", "completion", *self.waiting[0][0]["rewards"]]
            columns += ["advantage"] * ("advantage" in self.waiting[0][0])
            self.table = wandb.Table(columns=columns, log_mode="INCREMENTAL")
        for row in itertools.chain(*self.waiting):
            rest = [row["advantage"]] * ("advantage" in row)
            self.table.add_data(row["step"], row["prompt"], row["completion"], *row["rewards"].values(), *rest)
        wandb.log({"completions": self.table, "train/global_step": step})
        self.waiting = []


def follow(trainer, shown: dict[str, str], args, model_args) -> dict:
    """Show these metrics as the trainer goes, note the run's settings in W&B, and return where the code came from."""
    Progress.replace(trainer, shown)
    if "wandb" in trainer.args.report_to and hasattr(trainer, "_metrics"):
        _keep_timings_with_their_step(trainer)
    origin = run_folder.provenance()
    trainer.add_callback(WandbConfig({"recipe": asdict(args), "model_args": asdict(model_args)} | origin))
    return origin


def _keep_timings_with_their_step(trainer) -> None:
    """TRL's timings as means in the row of their step. By itself it logs a row for each of them, seven a step."""

    def keep(context, seconds: float) -> None:
        trainer._metrics["train"][f"profiling/{context.name}"].append(seconds)

    ProfilingContext._log_metrics = keep


class WandbConfig(TrainerCallback):
    """The recipe's own settings, the model's, and where the code came from, added to the trainer's in W&B's config."""

    def __init__(self, settings: dict):
        self.settings = settings

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero and "wandb" in args.report_to:
            import wandb

            wandb.config.update(self.settings, allow_val_change=True)


def _in_words(prompt: str | list[dict]) -> str:
    """A prompt as text; of a chat, its turns."""
    return prompt if isinstance(prompt, str) else "\n".join(f"{turn['role']}: {turn['content']}" for turn in prompt)


def _finite(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError):
        return math.inf  # the line that was being written when the run was killed
