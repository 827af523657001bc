"""An interrupted run: Ctrl-C, SIGTERM from a preempting scheduler, a full disk. Each ends in one line that says how to resume."""

import contextlib
import errno
import shutil
import signal
import sys
from pathlib import Path

import torch
from accelerate import PartialState
from safetensors import SafetensorError
from transformers import TrainerCallback

from recipes.shared.terminal import leave, say

SIGNALS = (signal.SIGINT, signal.SIGTERM)
FULL_BYTES = 2**20  # less than this left of a disk is nothing left


class Interruption(TrainerCallback):
    """Remembers a signal until the step in progress is done, and has the Trainer save a checkpoint and stop there.

    The same signal a second time ends the process at once. Of several processes, which launchers signal more than once, each
    has to stop after the same step, so after every step they tell each other; a signal to one of them stops all.
    """

    def __init__(self):
        self.received = 0  # the number of the signal; 0: none

    def receive(self, number: int, _frame) -> None:
        self.received = number
        if PartialState().num_processes == 1:
            signal.signal(number, signal.SIG_DFL)

    def on_step_end(self, args, state, control, **kwargs):
        if PartialState().num_processes > 1:
            number = torch.tensor(self.received, device=PartialState().device)
            torch.distributed.all_reduce(number, torch.distributed.ReduceOp.MAX)
            self.received = int(number)
        if self.received and state.global_step < state.max_steps:
            control.should_save = control.should_training_stop = True

    @classmethod
    @contextlib.contextmanager
    def watched(cls, trainer):
        """Watch for a signal while the trainer trains inside. A run that it stopped ends the program here, with 128 + its number."""
        if not getattr(trainer, "can_resume", True):
            yield
            return
        callback = cls()
        trainer.add_callback(callback)
        before = {number: signal.signal(number, callback.receive) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if callback.received and trainer.state.global_step < trainer.state.max_steps:
            step, folder = trainer.state.global_step, trainer.args.output_dir
            name = signal.Signals(callback.received).name
            say(
                f"{name}: stopped in {folder}/checkpoint-{step}; to resume, repeat the command with --resume_from_checkpoint true"
            )
            leave()
            sys.exit(128 + callback.received)


@contextlib.contextmanager
def disk_is_full(folder: Path):
    """An error inside that comes from a full disk ends the program with one line and exit code 1; others pass."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:  # torch raises RuntimeError
        full = getattr(error, "errno", None) == errno.ENOSPC or "No space left on device" in str(error)
        if not full and shutil.disk_usage(folder).free >= FULL_BYTES:
            raise
        print(
            f"error: output_dir={str(folder)!r}: the disk is full. The last complete checkpoint is kept: make room, lower "
            "save_total_limit, and repeat the command with --resume_from_checkpoint true",
            file=sys.stderr,
            flush=True,
        )
        sys.exit(1)
