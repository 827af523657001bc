"""Lines on the terminal, from the main process only: progress, results, refusals; and the end of a process."""

import os
import sys
import time
from contextlib import contextmanager

import torch
from accelerate import PartialState

import recipes

REFUSES_ALONE_S = 10.0
REFUSALS = ValueError, NotImplementedError, ImportError  # what the libraries raise for a config that they don't take


def is_main() -> bool:
    """By what launchers set: to ask accelerate would wait for processes that have left, as those of a dry run do."""
    return os.environ.get("RANK", "0") == "0"


def say(text: str) -> None:
    """One line of progress."""
    if is_main():
        print(text, flush=True)


def result(text: str) -> None:
    """What a command was asked for; with --json, standard output holds nothing else."""
    if is_main():
        print(text, file=recipes.RESULT, flush=True)


@contextmanager
def refusing(kind: type[Exception] | tuple[type[Exception], ...] = ValueError):
    """An exception inside, of this kind, ends the program with a line on standard error for each problem, and exit code 2."""
    try:
        yield
    except kind as error:
        # Every process of a launch refuses, and the launcher kills the others as soon as one has ended. The main process
        # prints the reason, and the others wait for that; one that is still running after the wait prints it itself.
        if not is_main():
            time.sleep(REFUSES_ALONE_S)
        for problem in getattr(error, "problems", [error]):
            print(f"error: {' '.join(str(problem).split())}", file=sys.stderr, flush=True)
        sys.exit(2)


def leave() -> None:
    """Destroy the process group after success; after an error this would hang.

    A process that ends without it is now and then aborted by gloo's threads ("terminate called without an active exception"),
    and its launcher then kills the others, which may still be writing.
    """
    if torch.distributed.is_initialized():
        PartialState().destroy_process_group()
