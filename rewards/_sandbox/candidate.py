"""The candidate's own process: a whole program on real stdin and stdout, or a module whose functions a tester calls.

Neither tests nor expected values ever reach this process, so it has nothing worth searching for; and nothing that it
says but plain data reaches the tester.
"""

import atexit
import builtins
import gc
import importlib
import io
import operator
import os
import sys
import threading
import traceback
import types

from rewards._sandbox import wire
from rewards._sandbox.names import HELPERS

PLAIN = (int, float, str, bytes, bool, type(None), list, tuple, dict)
# what a tester may ask for besides a call: builtins and operators by name, and the plain data in a subclass of list
OPERATIONS = (
    {
        name: getattr(builtins if hasattr(builtins, name) else operator, name)
        for name in (
            "len str repr iter next reversed hash abs int float complex round getattr setattr isinstance issubclass "
            "getitem setitem delitem contains format type eq lt le gt ge neg pos invert " + " ".join(wire.BINARY)
        ).split()
    }
    | {
        "contents": wire.contents,
        "exit": lambda *args: _exit(*args),
        "delattr": delattr,
        "copy": lambda x: importlib.import_module("copy").copy(x),
        "deepcopy": lambda x: importlib.import_module("copy").deepcopy(x),
        "await": lambda awaitable: _event_loop().run_until_complete(_wait_for(awaitable)),
        "anext": lambda iterator: _event_loop().run_until_complete(_wait_for(iterator.__anext__())),
    }
    | {f"i{name.rstrip('_')}": getattr(operator, f"i{name.rstrip('_')}") for name in wire.BINARY}
)
# what an object can do, by the methods of its class: a handle on it can do just that
CAPABILITIES = tuple(
    f"__{name}__"
    for name in [
        "call",
        "iter",
        "next",
        "len",
        "getitem",
        "setitem",
        "delitem",
        "contains",
        "await",
        "aiter",
        "anext",
        "enter",
        "exit",
        "reversed",
        "index",
    ]
)
# kinds that a test may ask for by isinstance; none of them says anything about a value
KINDS = {types.FunctionType: "function", types.GeneratorType: "generator", types.CoroutineType: "coroutine"}
RECURSION = 60_000  # LeetCode allows as much and more, without being asked
# names that a module has before its first line, where its row says nothing: what LeetCode gives, and most graders
DEFAULT_PRELUDE = """
import bisect, collections, functools, heapq, itertools, math, re, typing
from bisect import *
from collections import *
from functools import *
from heapq import *
from itertools import *
from math import *
from typing import *
"""
DEFAULTS: dict[str, object] = {}


def prepare() -> None:
    """In a worker, before its forks: what every program has from the start."""
    open_streams()
    names: dict[str, object] = {}
    exec(DEFAULT_PRELUDE, names)
    DEFAULTS.update((n, v) for n, v in names.items() if not hasattr(builtins, n) and not n.startswith("_"))
    sys.set_int_max_str_digits(0)


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
_loop = None
STANDARD = {f"{folder}{name}": fd for fd, stream in enumerate(("stdin", "stdout", "stderr"))
            for folder, name in (("/dev/", stream), ("/dev/fd/", fd), ("/proc/self/fd/", fd))}  # fmt: skip


def run(code: str, prelude: str = "") -> None:
    """Run a program as Python does, and end this process with its exit code."""
    builtins.open = io.open = open_
    sys.argv = ["main.py"]
    module = sys.modules["__main__"] = types.ModuleType("__main__")
    module.__dict__["__file__"] = "main.py"
    status = 0
    try:
        if prelude:
            exec(compile(prelude, "prelude.py", "exec"), module.__dict__)
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
    if not getattr(stream, "closed", False):
        stream.flush()


def _event_loop():
    """One for the whole run: the end of a loop of its own would close an asynchronous generator."""
    global _loop
    if _loop is None:
        _loop = importlib.import_module("asyncio").new_event_loop()
    return _loop


async def _wait_for(awaitable: object) -> object:
    return await awaitable


def _exit_code(error: SystemExit) -> int:
    if error.code is None or isinstance(error.code, int):
        return int(error.code or 0)
    print(error.code, file=sys.stderr)
    return 1


class Server:
    """The candidate's side of the wire: runs a module, and then does what the tester asks for."""

    def __init__(self, fd: int):
        self.fd = fd
        self.objects: dict[int, object] = {}
        self.lock = threading.RLock()  # a callback is answered before another one is made
        self.module = sys.modules["solution"] = types.ModuleType("solution")
        self.shared: dict[str, type] = {}  # the prelude's classes

    def load(self, code: str, prelude: str) -> None:
        """Run prelude and program, and tell the program's names; what fails is told, too."""
        names = vars(self.module)
        names.update(DEFAULTS)
        try:
            exec(compile(prelude, "prelude.py", "exec"), names)
            self.shared = {n: v for n, v in names.items() if isinstance(v, type) and v.__module__ == "solution"}
            before = dict(names)
            exec(compile(code, "solution.py", "exec"), names)
        except BaseException as error:
            wire.send(self.fd, {"failed": type(error).__name__})
            return
        own = {n: v for n, v in list(names.items()) if type(n) is str and (n not in before or before[n] is not v)}
        wire.send(self.fd, {"names": {name: _origin(value) for name, value in own.items()}})
        while True:
            self.answer(wire.receive(self.fd))

    def answer(self, request: dict) -> None:
        try:
            unpacker = wire.Unpacker(self.unhandle, self.class_of, request["nodes"])
            args, kwargs = unpacker.unpack(request["args"])
            unpacker.finish()
            operation = request["do"]
            if operation == "global":
                value = vars(self.module)[request["object"]]
            elif operation == "call":
                value = self.objects[request["object"]](*args, **kwargs)
            else:
                value = OPERATIONS[operation](self.objects[request["object"]], *args)
            reply = self.reply(
                value, [args, kwargs] if len(unpacker.built) > 2 or unpacker.nodes else None, unpacker, request
            )
        except BaseException as error:
            reply = self.raised(error)
        try:
            wire.send(self.fd, reply)
        except ValueError as error:
            wire.send(self.fd, self.raised(error))

    def reply(self, value: object, arguments: list | None, unpacker: wire.Unpacker, request: dict) -> dict:
        """A value, and the arguments as they are now, where they are others; what was passed stays the same object."""
        nodes = {id(node): place for place, node in enumerate(unpacker.nodes)}
        packer = wire.Packer(self.handle, self.node_of, nodes=nodes)
        reply = {}
        if arguments is not None:
            changed = wire.Packer(self.handle, self.node_of)
            packed = [changed.pack(arguments[0]), changed.pack(arguments[1])]
            if packed != request["args"] or changed.finish() != request["nodes"]:
                reply["changed"] = [packer.pack(arguments[0]), packer.pack(arguments[1])]
        packer.known = {id(kept): number for number, kept in enumerate(unpacker.built)}
        reply["value"] = packer.pack(value)
        reply["nodes"] = packer.finish()
        return reply

    def node_of(self, value: object) -> str | None:
        """The name of the prelude's class that this is an instance of, or of the program's own in its place."""
        name = type(value).__name__
        if name in self.shared and type(value) in (self.shared[name], vars(self.module).get(name)):
            return name if hasattr(value, "__dict__") else None
        return None

    def class_of(self, name: str) -> type:
        own = vars(self.module).get(name)
        return own if isinstance(own, type) else self.shared[name]

    def handle(self, value: object, packer: wire.Packer) -> object:
        self.objects[id(value)] = value  # kept alive, so that no other object takes its id
        kind = type(value)
        if isinstance(value, type):
            bases = [[c.__module__, c.__name__] for c in value.__mro__] if issubclass(value, BaseException) else []
            return {"object": [id(value), False, bases, ["__call__"], ""]}
        plain = isinstance(value, wire.BASES)
        if plain and not kind.__module__.startswith("solution"):
            return packer.pack(wire.contents(value))
        able = [name for name in CAPABILITIES if hasattr(kind, name)]
        return {"object": [id(value), plain, [], able, KINDS.get(kind, "")]}

    def unhandle(self, tag: str, content: object, unpacker: wire.Unpacker) -> object:
        if tag == "mine":
            return self.objects[content]
        number, name, document = content
        if tag == "stream":
            return self.stream(number)

        def callback(*args, **kwargs):
            return self.call_back(number, args, kwargs)

        callback.__name__, callback.__doc__ = name, document
        return callback

    def stream(self, number: int):
        """An iterator of the tests', asked for one item after the other: it may have no end."""
        while True:
            try:
                item = self.call_back(number, (), {})
            except StopIteration:
                return
            yield item

    def call_back(self, number: int, args: tuple, kwargs: dict) -> object:
        """Call a function of the tests', and serve it meanwhile: it may call the candidate again."""
        with self.lock:
            packer = wire.Packer(self.handle, self.node_of)
            message = {"call": number, "args": [packer.pack(list(args)), packer.pack(kwargs)]}
            wire.send(self.fd, message | {"nodes": packer.finish()})
            while "do" in (reply := wire.receive(self.fd)):
                self.answer(reply)
        if "raised" in reply:
            error = getattr(builtins, reply["raised"], None)
            raise (error if isinstance(error, type) else RuntimeError)(*reply["text"])
        unpacker = wire.Unpacker(self.unhandle, self.class_of, reply["nodes"])
        value = unpacker.unpack(reply["value"])
        unpacker.finish()
        return value

    def raised(self, error: BaseException, depth: int = 0) -> dict:
        """What is told of an exception: its classes, plain arguments and attributes, its text, and what caused it."""
        try:
            packer = wire.Packer(lambda value, _: str(value), lambda _: None)
            told = {
                "raised": [[c.__module__, c.__name__] for c in type(error).__mro__][:16],
                "args": [packer.pack(a) if isinstance(a, PLAIN) else str(a) for a in error.args[:8]],
                "attributes": [[k, packer.pack(v)] for k, v in list(vars(error).items())[:16] if type(k) is str],
                "text": str(error)[:10_000],
            }
            if error.__cause__ is not None and depth < 4:
                told["cause"] = self.raised(error.__cause__, depth + 1)
            return told
        except BaseException:
            return {"raised": [["builtins", "Exception"]], "args": [], "attributes": [], "text": ""}


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
