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
PLAIN = (int, float, str, bytes, bool, type(None))
# what a tester may ask for besides a call: builtins and operators by name, and the plain data in a subclass of list
OPERATIONS = {
    name: getattr(builtins if hasattr(builtins, name) else operator, name)
    for name in (
        "len str repr iter next reversed hash abs int float complex round getattr setattr isinstance issubclass "
        "getitem setitem delitem eq lt le gt ge neg pos invert " + " ".join(wire.BINARY)
    ).split()
} | {
    "contents": wire.contents,
    "exit": lambda *args: _exit(*args),
    "delattr": delattr,
    "await": lambda coroutine: importlib.import_module("asyncio").run(coroutine),
}


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
        if not sys.stdout.closed:
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
    calling_back = threading.Lock()

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
        if tag == "iterator":
            return iter(wire.decode(content, unhandle))

        def callback(*args, **kwargs):
            with calling_back:
                wire.send(fd, {"call": content[0], "args": wire.encode([list(args), kwargs], handle)})
                reply = wire.receive(fd)
            if "raised" in reply:
                error = getattr(builtins, reply["raised"], None)
                raise (error if isinstance(error, type) else RuntimeError)(*wire.decode(reply["args"], unhandle))
            return wire.decode(reply["value"], unhandle)

        callback.__name__ = content[1]
        return callback

    module = sys.modules["solution"] = types.ModuleType("solution")
    try:
        exec(compile(code, "solution.py", "exec"), module.__dict__)
    except BaseException as error:
        wire.send(fd, {"failed": type(error).__name__})
        return
    wire.send(fd, {"names": {name: _origin(value) for name, value in list(vars(module).items()) if type(name) is str}})
    while True:
        request = wire.receive(fd)
        try:
            args, kwargs = wire.decode(request["args"], unhandle)
            operation = request["do"]
            if operation == "global":
                value = vars(module)[request["object"]]
            elif operation == "call":
                value = objects[request["object"]](*args, **kwargs)
            else:
                value = OPERATIONS[operation](objects[request["object"]], *args)
            reply = {"value": wire.encode(value, handle)}
            if operation == "call" and any(map(wire.is_mutable, (*args, *kwargs.values()))):
                reply["changed"] = wire.encode([args, kwargs], handle)
        except BaseException as error:
            reply = _raised(error, handle)
        try:
            wire.send(fd, reply)
        except ValueError as error:
            wire.send(fd, _raised(error, handle))


def _raised(error: BaseException, handle) -> dict:
    try:
        names = [c.__name__ for c in type(error).__mro__][:16]
        return {
            "raised": names,
            "args": wire.encode([a if type(a) in PLAIN else str(a) for a in error.args][:8], handle),
        }
    except BaseException:
        return {"raised": ["Exception"], "args": []}


def _exit(target: object, name: str | None, text: str) -> object:
    """Leave a with block, with an exception of that name if the tests raised one in it."""
    if name is None:
        return target.__exit__(None, None, None)
    kind = getattr(builtins, name, None)
    kind = kind if isinstance(kind, type) and issubclass(kind, Exception) else Exception
    return target.__exit__(kind, kind(text), None)


def _origin(value: object) -> list[str] | None:
    """[module, name in it] of what the code imported from a helper module, [module] of a module, None of all else."""
    if isinstance(value, types.ModuleType):
        return [value.__name__]
    home, name = getattr(value, "__module__", None), getattr(value, "__name__", None)
    if (
        type(home) is str
        and home in HELPERS
        and type(name) is str
        and getattr(sys.modules.get(home), name, None) is value
    ):
        return [home, name]
    return None
