"""A complete program in a process of its own, on real stdin and stdout. What it is to print never reaches that process."""

import atexit
import builtins
import gc
import io
import os
import sys
import threading
import traceback
import types

from rewards._sandbox import prelude


def open_streams() -> None:
    """Text streams on descriptors 0 to 2, as Python opens them; in the worker, since that takes longer than a small program."""
    for name, fd, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        errors = "backslashreplace" if name == "stderr" else "strict"
        stream = open(fd, mode, encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def open_(file, *args, **kwargs):
    """open(), for which /dev/stdin is descriptor 0: the sandbox has no /proc, where such names lead."""
    return _open(os.dup(STANDARD[file]) if type(file) is str and file in STANDARD else file, *args, **kwargs)


_open = open
STANDARD = {f"{folder}{name}": fd for fd, stream in enumerate(("stdin", "stdout", "stderr"))
            for folder, name in (("/dev/", stream), ("/dev/fd/", fd), ("/proc/self/fd/", fd))}  # fmt: skip


def run(code: str, before: str = "") -> None:
    """Run a program as Python does, and end this process with its exit code."""
    builtins.open = io.open = open_
    sys.argv = ["main.py"]
    module = sys.modules["__main__"] = types.ModuleType("__main__")
    module.__dict__["__file__"] = "main.py"
    status = 0
    try:
        if before:
            prelude.run(before, module.__dict__, usual=False)
        exec(compile(code, "main.py", "exec"), module.__dict__)
    except SystemExit as error:
        status = _exit_code(error)
    except BaseException:
        status = 1
        traceback.print_exc(limit=5)
    try:
        threading._shutdown()  # wait for threads, as the interpreter does
        atexit._run_exitfuncs()
        _flush(sys.stdout)
        module.__dict__.clear()  # files that the program left open are closed, and so written
        gc.collect()
        _flush(sys.__stdout__)
    except BaseException:
        status = status or 1
    os._exit(status & 255)


def _flush(stream: object) -> None:
    if stream is not None and not getattr(stream, "closed", False):
        stream.flush()


def _exit_code(error: SystemExit) -> int:
    if error.code is None or isinstance(error.code, int):
        return int(error.code or 0)
    print(error.code, file=sys.stderr)
    return 1
