"""The candidate's own process: a whole program on real stdin and stdout, or a module whose functions a tester calls.

Neither tests nor expected values ever reach this process, so it has nothing worth searching for; and nothing that it
says but plain data reaches the tester.
"""

import atexit
import builtins
import importlib
import io
import operator
import os
import sys
import threading
import traceback
import types

from rewards._sandbox import wire

# modules whose own functions and classes a test gets from its own copy, never from the candidate's
HELPERS = {
    "math", "cmath", "collections", "itertools", "functools", "re", "string", "random", "heapq", "bisect", "operator",
    "datetime", "decimal", "fractions", "statistics", "copy", "json", "typing",
}  # fmt: skip
# what a tester may ask for besides a call: builtins and operators by name, and the plain data in a subclass of list
OPERATIONS = {
    name: getattr(builtins if hasattr(builtins, name) else operator, name)
    for name in (
        "len str repr iter next reversed hash abs int float complex round getattr setattr isinstance issubclass "
        "getitem setitem delitem eq lt le gt ge neg pos invert " + " ".join(wire.BINARY)
    ).split()
} | {"contents": wire.contents, "await": lambda coroutine: importlib.import_module("asyncio").run(coroutine)}


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


def run(code: str) -> None:
    """Run a program as Python does, and end this process with its exit code."""
    builtins.open = io.open = open_
    sys.argv = ["main.py"]
    module = sys.modules["__main__"] = types.ModuleType("__main__")
    module.__dict__["__file__"] = "main.py"
    status = 0
    try:
        exec(compile(code, "main.py", "exec"), module.__dict__)
    except SystemExit as error:
        status = _exit_code(error)
    except BaseException:
        status = 1
        traceback.print_exc(limit=5)
    try:
        threading._shutdown()  # wait for threads, as the interpreter does
        atexit._run_exitfuncs()
        sys.stdout.flush()
    except BaseException:
        status = status or 1
    os._exit(status & 255)


def _exit_code(error: SystemExit) -> int:
    if error.code is None or isinstance(error.code, int):
        return int(error.code or 0)
    print(error.code, file=sys.stderr)
    return 1


def serve(fd: int, code: str) -> None:
    """Run a module, tell its names, and then do what the tester asks for, until this process is killed."""
    objects: dict[int, object] = {}

    def handle(value: object) -> dict:
        objects[id(value)] = value  # kept alive, so that no other object takes its id
        is_class = isinstance(value, type)
        bases = [c.__name__ for c in value.__mro__ if c.__module__ == "builtins"] if is_class else []
        plain = not is_class and isinstance(value, wire.BASES)
        if plain and not type(value).__module__.startswith("solution"):
            return wire.encode(wire.contents(value), handle)
        return {"object": [id(value), plain, (value if is_class else type(value)).__name__, bases]}

    def unhandle(tag: str, content: object) -> object:
        if tag == "mine":
            return objects[content]

        def callback(*args, **kwargs):
            wire.send(fd, {"call": content, "args": wire.encode([list(args), kwargs], handle)})
            reply = wire.receive(fd)
            if "raised" in reply:
                raise RuntimeError("the function that was passed in raised an error")
            return wire.decode(reply["value"], unhandle)

        return callback

    module = sys.modules["solution"] = types.ModuleType("solution")
    try:
        exec(compile(code, "solution.py", "exec"), module.__dict__)
    except BaseException as error:
        wire.send(fd, {"failed": type(error).__name__})
        return
    names = {}
    for name, value in list(module.__dict__.items()):
        try:
            if not name.startswith("__"):
                names[name] = _helper(name, value) or wire.encode(value, handle)
        except Exception:  # a global of no use to a test, too deep or hostile
            continue
    wire.send(fd, {"names": names})
    while True:
        request = wire.receive(fd)
        try:
            args, kwargs = wire.decode(request["args"], unhandle)
            target = objects[request["object"]]
            operation = request["do"]
            value = target(*args, **kwargs) if operation == "call" else OPERATIONS[operation](target, *args)
            reply = {"value": wire.encode(value, handle)}
            if operation == "call" and any(map(wire.is_mutable, (*args, *kwargs.values()))):
                reply["changed"] = wire.encode([args, kwargs], handle)
        except BaseException as error:
            reply = _raised(error)
        try:
            wire.send(fd, reply)
        except ValueError as error:
            wire.send(fd, _raised(error))


def _raised(error: BaseException) -> dict:
    try:
        return {"raised": [c.__name__ for c in type(error).__mro__][:16], "text": str(error)[:500]}
    except BaseException:
        return {"raised": ["Exception"], "text": ""}


def _helper(name: str, value: object) -> dict | None:
    """A module or function of the standard library that the code imported, by name: tests may rely on it."""
    if isinstance(value, types.ModuleType):
        return {"module": value.__name__} if value.__name__.partition(".")[0] in HELPERS else {"module": ""}
    home = getattr(value, "__module__", None)
    if home in HELPERS and home in sys.modules and getattr(sys.modules[home], name, builtins) is value:
        return {"module": home, "name": name}
    return None
