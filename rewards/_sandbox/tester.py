"""The tests' process: asserts run here, on plain data and on handles, never beside the candidate.

Exit codes, printed words and equality that is evaluated in the candidate's process have all been gamed; here a verdict
is written by this process, on a descriptor that only it has. What the candidate's objects may prove: proxies.py. Which
names the candidate gives: names.py.
"""

import ast
import builtins
import collections.abc
import contextlib
import importlib
import math
import os
import sys
import threading
import types

from rewards._sandbox import wire
from rewards._sandbox.candidate import DEFAULTS, RECURSION
from rewards._sandbox.names import HELPERS, PACKAGES, names_of
from rewards._sandbox.proxies import SOURCES, Proxy, kind_of, target_of, type_of

LOADED, PASSED, FAILED, DIED = b"^", b"+", b"-", b"x"


def run(fd: int, verdicts: int, tests: dict) -> None:
    """Write LOADED when the candidate's module has run, then a verdict an assert; DIED is the last when it is gone.

    tests: setup, asserts, how many of them are done, the prelude, and float_tolerance or None.
    """
    sys.setrecursionlimit(RECURSION)
    sys.set_int_max_str_digits(0)
    names = dict(DEFAULTS) | {"__name__": "tests", "__type_of__": type_of}
    peer = Peer(fd, names)
    setup, asserts = tests["setup"], tests["asserts"]
    if tests["float_tolerance"] is not None:
        names["__equal__"] = Tolerance(tests["float_tolerance"]).equal
    try:
        peer.run_prelude(tests["prelude"])
        names.update(peer.names(setup, asserts))
    except (wire.Closed, ValueError, TypeError, KeyError, AttributeError, ImportError, IndexError, RecursionError):
        return
    os.write(verdicts, LOADED)
    solution = sys.modules["solution"] = types.ModuleType("solution")  # for tests that import from it
    vars(solution).update(peer.given)
    for number, statement in enumerate(ast.parse(setup).body):  # one by one: what fails must not take the others along
        try:
            execute(ast.Module([statement], []), f"setup-{number}.py", names)
        except wire.Closed:
            os.write(verdicts, DIED)
            return
        except Exception:  # what it was to define is missing, and the asserts that need it fail
            continue
    for number, code in list(enumerate(asserts))[tests["done"] :]:
        try:
            execute(ast.parse(code), f"test-{number}.py", names)
        except wire.Closed:
            os.write(verdicts, DIED)
            return
        except BaseException as error:
            os.write(verdicts, FAILED)
            if tests.get("explain"):
                os.write(verdicts, f"{type(error).__name__}: {error}".encode()[:300].replace(b"\n", b" ") + b"\n")
        else:
            # a test may swallow every exception, the candidate's death among them
            os.write(verdicts, DIED if peer.gone else PASSED)
        if peer.gone:
            return


def execute(tree: ast.Module, name: str, names: dict) -> None:
    SOURCES[name] = tree
    exec(compile(ast.fix_missing_locations(Rewritten("__equal__" in names).visit(tree)), name, "exec"), names)


class Rewritten(ast.NodeTransformer):
    """`type(x)` asks for the candidate's class; where the row allows a tolerance, asserts compare with it."""

    def __init__(self, tolerant: bool):
        self.tolerant = tolerant

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "type" and len(node.args) == 1 and not node.keywords:
            node.func.id = "__type_of__"
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if self.tolerant and len(node.ops) == 1 and isinstance(node.ops[0], ast.Eq):
            call = ast.Call(ast.Name("__equal__", ast.Load()), [node.left, *node.comparators], [])
            return ast.copy_location(call, node)
        return node


class Tolerance:
    """Equality of numbers within a tolerance, absolute or relative, also inside of lists, tuples and dictionaries."""

    def __init__(self, tolerance: float):
        self.tolerance = tolerance

    def equal(self, a: object, b: object) -> bool:
        if type(a) in (list, tuple) and type(a) is type(b):
            return len(a) == len(b) and all(map(self.equal, a, b))
        if type(a) is type(b) is dict:
            return a.keys() == b.keys() and all(self.equal(a[k], b[k]) for k in a)
        if float in (type(a), type(b)) and {type(a), type(b)} <= {int, float}:
            return math.isclose(a, b, rel_tol=self.tolerance, abs_tol=self.tolerance)
        return a == b


class Peer:
    """The candidate, as seen from here: requests go out, plain data and handles come back."""

    def __init__(self, fd: int, space: dict):
        self.fd, self.gone, self.space = fd, False, space
        self.lock = threading.RLock()  # a callback asks again, within a question
        self.callbacks: list = []
        self.proxies: dict[int, Proxy] = {}
        self.exceptions: dict[tuple, type] = {}
        self.shared: set[str] = set()  # the classes that both ends have, by name
        self.given: dict[str, object] = {}

    def run_prelude(self, prelude: str) -> None:
        with contextlib.suppress(Exception):
            exec(compile(prelude, "prelude.py", "exec"), self.space)
        self.shared = {n.name for n in ast.parse(prelude).body if isinstance(n, ast.ClassDef)}

    def names(self, setup: str, asserts: list[str]) -> dict:
        """The candidate's names that the tests need, as a namespace, and the modules that they take without an import."""
        told = self._receive()["names"]
        given = {n for n in self.space if not n.startswith("__")}
        wanted, modules = names_of(setup, asserts, given)
        found = {}
        for name in modules:
            with contextlib.suppress(ImportError):
                found[name] = importlib.import_module(PACKAGES.get(name, name))
        for name in sorted(wanted):
            if name not in told or not name.isidentifier() or name.startswith("__"):
                continue
            origin = told[name]
            if type(origin) is list and len(origin) == 1 and origin[0] in sys.stdlib_module_names:
                found[name] = importlib.import_module(origin[0])
            elif type(origin) is list and len(origin) == 2 and origin[1] == name and origin[0] in HELPERS:
                found[name] = getattr(importlib.import_module(origin[0]), name)
            else:
                with contextlib.suppress(Exception):
                    found[name] = self.ask(name, "global")
        if self.gone:
            raise wire.Closed("gone")
        self.given = found
        return found

    def ask(self, target: int | str, operation: str, *args, kwargs: dict | None = None) -> object:
        with self.lock:
            return self._ask(target, operation, args, kwargs or {})

    def _ask(self, target: int | str, operation: str, args: tuple, kwargs: dict) -> object:
        packer = wire.Packer(self._handle, self._node_of)
        packed = [packer.pack(list(args)), packer.pack(kwargs)]
        try:
            wire.send(self.fd, {"do": operation, "object": target, "args": packed, "nodes": packer.finish()})
        except OSError as error:
            self.gone = True
            raise wire.Closed("gone") from error
        while "call" in (reply := self._receive()):
            self._call_back(reply)
        if "raised" in reply:
            raise self._exception(reply, operation)
        # packed were the list of args and the dict, too, as the last of all: they are no objects of the test's
        unpacker = wire.Unpacker(self._unhandle, self._class_of, reply["nodes"], packer.kept, packer.kept_nodes)
        changed = [unpacker.unpack(part) for part in reply["changed"]] if "changed" in reply else None
        value = unpacker.unpack(reply["value"])
        unpacker.finish()
        if changed is not None:
            for old, new in zip(args, changed[0], strict=True):
                wire.put_back(old, new)
            for name, old in kwargs.items():
                wire.put_back(old, changed[1][name])
        return value

    def _receive(self) -> dict:
        try:
            return wire.receive(self.fd)
        except wire.Closed:
            self.gone = True
            raise

    def _node_of(self, value: object) -> str | None:
        name = type(value).__name__
        return (
            name if name in self.shared and type(value) is self.space.get(name) and hasattr(value, "__dict__") else None
        )

    def _class_of(self, name: str) -> type:
        kind = self.space[name] if name in self.shared else None
        if not isinstance(kind, type):
            raise KeyError(f"{name!r} is no class of the row's")
        return kind

    def _handle(self, value: object, packer: wire.Packer) -> object:
        if isinstance(value, Proxy):
            return {"mine": target_of(value)}
        if callable(value):
            self.callbacks.append(value)
            name, document = getattr(value, "__name__", "callback"), getattr(value, "__doc__", None)
            return {"callback": [len(self.callbacks) - 1, str(name), document if type(document) is str else None]}
        if isinstance(value, collections.abc.ValuesView):
            return packer.pack(list(value))
        if isinstance(value, collections.abc.Iterator):
            self.callbacks.append(value.__next__)
            return {"stream": [len(self.callbacks) - 1, "", None]}
        try:
            return packer.pack(wire.contents(value))
        except TypeError:
            raise TypeError(f"a test can't pass a {type(value).__name__} to the code") from None

    def _unhandle(self, tag: str, content: list, _: wire.Unpacker) -> object:
        if tag != "object":
            raise ValueError(f"{tag!r} is no kind of data")
        target, is_plain, classes, able, kind = content
        if classes:
            return self._exception_class(classes)
        found = self.proxies.get(int(target))  # `f() is f()` holds
        if found is None:
            handle = kind_of(tuple(map(str, able)), str(kind))
            found = self.proxies[int(target)] = handle(self, int(target), is_plain is True)
        return found

    def _exception(self, told: dict, operation: str = "") -> BaseException:
        """What was raised, as an exception of this process, with its arguments, attributes, text and cause."""
        classes = told["raised"]
        stops = {"StopIteration": "next", "StopAsyncIteration": "anext"}
        if any(name in stops and operation != stops[name] for _, name in classes):
            classes = [["builtins", "RuntimeError"]]  # or all(map(f, ...)) would end early, and be true
        kind = self._exception_class(classes)
        unpacker = wire.Unpacker(self._unhandle, self._class_of, [])
        args = [unpacker.unpack(a) for a in told["args"]]
        try:
            error = kind(*args)
        except Exception:  # its class wants other arguments
            error = kind.__new__(kind)
            error.args = tuple(args)
        if kind.__module__ == "solution":
            error.text = str(told["text"])
        for name, packed in told["attributes"]:
            if type(name) is str and not name.startswith("__"):
                with contextlib.suppress(Exception):
                    setattr(error, name, unpacker.unpack(packed))
        if "cause" in told:
            error.__cause__ = self._exception(told["cause"])
        return error

    def _exception_class(self, classes: list) -> type:
        """A class of this process: the builtin or library one, or one that stands for the candidate's own, and its parents."""
        if not classes:
            return RuntimeError
        (home, name), rest = classes[0], classes[1:]
        if home == "builtins":
            found = getattr(builtins, str(name), None)
            return found if isinstance(found, type) and issubclass(found, Exception) else RuntimeError
        if str(home).partition(".")[0] in sys.stdlib_module_names:
            found = getattr(sys.modules.get(home), str(name), None)
            if isinstance(found, type) and issubclass(found, Exception):
                return found
        key = tuple((str(h), str(n)) for h, n in classes)
        if key not in self.exceptions:
            parent = self._exception_class(rest)
            body = {"__str__": lambda error: error.__dict__.get("text", ""), "__module__": "solution"}
            self.exceptions[key] = type(str(name), (parent,), body)
        return self.exceptions[key]

    def _call_back(self, request: dict) -> None:
        try:
            unpacker = wire.Unpacker(self._unhandle, self._class_of, request["nodes"])
            args, kwargs = map(unpacker.unpack, request["args"])
            unpacker.finish()
            number = request["call"]
            if type(number) is not int or number < 0:
                raise ValueError("no callback")
            packer = wire.Packer(self._handle, self._node_of)
            reply = {"value": packer.pack(self.callbacks[number](*args, **kwargs)), "nodes": packer.finish()}
        except wire.Closed:
            raise
        except Exception as error:
            reply = {"raised": type(error).__name__, "text": [str(a) for a in error.args]}
        wire.send(self.fd, reply)
