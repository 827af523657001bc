"""The tests' process: asserts run here, on plain data and on handles, never beside the candidate.

Exit codes, printed words and equality that is evaluated in the candidate's process have all been gamed; here a verdict
is written by this process, on a descriptor that only it has. A candidate's object has no truth value, equals nothing but
another of its objects, and takes part in no arithmetic with what the test expects.
"""

import ast
import builtins
import collections.abc
import contextlib
import importlib
import os
import sys
import threading
import types
from typing import NamedTuple

from rewards._sandbox import wire
from rewards._sandbox.candidate import HELPERS

PACKAGES = {"numpy": "numpy", "np": "numpy", "pytest": "pytest", "pd": "pandas", "pandas": "pandas"}
LOADED, PASSED, FAILED, DIED = b"^", b"+", b"-", b"x"


def run(fd: int, verdicts: int, setup: str, asserts: list[str], done: int) -> None:
    """Write LOADED when the candidate's module has run, then a verdict an assert; DIED is the last when it is gone."""
    peer = Peer(fd)
    try:
        names = peer.names([setup, *asserts])
    except (wire.Closed, ValueError, TypeError, KeyError, AttributeError, ImportError, RecursionError):
        return
    os.write(verdicts, LOADED)
    names["__name__"] = "tests"
    sys.modules["solution"] = types.ModuleType("solution")  # for tests that import from it
    vars(sys.modules["solution"]).update(names)
    for statement in ast.parse(setup).body:  # one by one: what fails must not take the others along
        try:
            exec(compile(ast.Module([statement], []), "setup.py", "exec"), names)
        except wire.Closed:
            os.write(verdicts, DIED)
            return
        except Exception:  # what it was to define is missing, and the asserts that need it fail
            continue
    for code in asserts[done:]:
        try:
            exec(compile(code, "test.py", "exec"), names)
        except wire.Closed:
            os.write(verdicts, DIED)
            return
        except BaseException:
            os.write(verdicts, FAILED)
        else:
            # a test may swallow every exception, the candidate's death among them
            os.write(verdicts, DIED if peer.gone else PASSED)
        if peer.gone:
            return


class Names(NamedTuple):
    """What tests read, bind themselves, call, and take attributes of: by their text alone, whatever a candidate says."""

    read: set[str]
    bound: set[str]
    called: set[str]
    looked_into: set[str]


def names_in(sources: list[str]) -> Names:
    nodes = [node for source in sources for node in ast.walk(ast.parse(source))]
    loads = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    bound = {n.id for n in nodes if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
    bound |= {n.name for n in nodes if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))}
    bound |= {n.arg for n in nodes if isinstance(n, ast.arg)}
    bound |= {n.name for n in nodes if isinstance(n, ast.ExceptHandler) and n.name}
    solution = {"solution"}
    for node in nodes:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            ours = isinstance(node, ast.ImportFrom) and node.module == "solution"
            solution |= {alias.name for alias in node.names} if ours else set()
            bound |= {alias.asname or alias.name.partition(".")[0] for alias in node.names} - (
                solution if ours else set()
            )
    attributes = [n for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)]
    solution |= {n.attr for n in attributes if n.value.id == "solution"}
    called = {n.func.id for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    return Names(loads | solution, bound, called, {n.value.id for n in attributes})


class Peer:
    """The candidate, as seen from here: requests go out, plain data and handles come back."""

    def __init__(self, fd: int):
        self.fd, self.gone = fd, False
        self.lock = threading.RLock()  # a callback asks again, within a question
        self.callbacks: list = []
        self.proxies: dict[int, Proxy] = {}
        self.exceptions: dict[str, type] = {}

    def names(self, sources: list[str]) -> dict:
        """The candidate's names that the tests read and don't bind themselves, as a namespace.

        A builtin stays Python's own, or `abs` would be the candidate's, unless it is the only one that the tests call:
        then it is what they test. `math` in `math.isclose` is the module, whatever the candidate has made of that name.
        """
        told = self._receive()["names"]
        read, bound, called, looked_into = names_in(sources)
        free = called - bound
        tested = free if len(free) == 1 else set()
        namespace = {}
        for name in sorted(read - bound):
            if hasattr(builtins, name) and name not in tested:
                continue
            if name in looked_into and (name in sys.stdlib_module_names or name in PACKAGES):
                with contextlib.suppress(ImportError):
                    namespace[name] = importlib.import_module(PACKAGES.get(name, name))
            elif name in told and name.isidentifier() and not name.startswith("__"):
                origin = told[name]
                if type(origin) is list and len(origin) == 2 and origin[1] == name and origin[0] in HELPERS:
                    namespace[name] = getattr(importlib.import_module(origin[0]), name)
                else:
                    with contextlib.suppress(Exception):
                        namespace[name] = self.ask(name, "global")
        if self.gone:
            raise wire.Closed("gone")
        return namespace

    def ask(self, target: int | str, operation: str, *args, kwargs: dict | None = None) -> object:
        with self.lock:
            return self._ask(target, operation, args, kwargs)

    def _ask(self, target: int | str, operation: str, args: tuple, kwargs: dict | None) -> object:
        try:
            wire.send(self.fd, {"do": operation, "object": target, "args": self._encode([list(args), kwargs or {}])})
        except OSError as error:
            self.gone = True
            raise wire.Closed("gone") from error
        while "call" in (reply := self._receive()):
            self._call_back(reply)
        if "raised" in reply:
            names = reply["raised"]
            if operation != "next" and "StopIteration" in names:
                names = ["RuntimeError"]  # or all(map(f, ...)) would end early, and be true
            raise self._exception(names)(*self._decode(reply["args"]))
        if "changed" in reply:
            wire.put_back((list(args), kwargs or {}), tuple(self._decode(reply["changed"])))
        return self._decode(reply["value"])

    def _receive(self) -> dict:
        try:
            return wire.receive(self.fd)
        except wire.Closed:
            self.gone = True
            raise

    def _encode(self, value: object) -> object:
        return wire.encode(value, self._handle)

    def _decode(self, value: object) -> object:
        return wire.decode(value, self._unhandle)

    def _handle(self, value: object) -> dict:
        if isinstance(value, Proxy):
            return {"mine": object.__getattribute__(value, "_id")}
        if callable(value):
            self.callbacks.append(value)
            return {"callback": [len(self.callbacks) - 1, getattr(value, "__name__", "callback")]}
        if isinstance(value, (collections.abc.KeysView, collections.abc.ValuesView, collections.abc.ItemsView)):
            return self._encode(list(value))
        if isinstance(value, collections.abc.Iterator):
            return {"iterator": self._encode(list(value))}
        try:
            return self._encode(wire.contents(value))
        except TypeError:
            raise TypeError(f"a test can't pass a {type(value).__name__} to the code") from None

    def _unhandle(self, tag: str, content: list) -> object:
        if tag != "object":
            raise ValueError(f"{tag!r} is no kind of data")
        target, plain, name, bases = content
        if "BaseException" in bases:
            return self._exception([str(name), *map(str, bases)])
        return self.proxies.setdefault(int(target), Proxy(self, int(target), plain is True))  # `f() is f()` holds

    def _exception(self, names: list[str]) -> type:
        """An exception of this process with that name: the builtin one, or one that stands for the candidate's own."""
        known = [getattr(builtins, str(n), None) for n in names]
        parent = next((k for k in known if isinstance(k, type) and issubclass(k, Exception)), RuntimeError)
        if known and known[0] is parent:
            return parent
        name = str(names[0]) if names else "Exception"
        return self.exceptions.setdefault(name, type(name, (parent,), {}))

    def _call_back(self, request: dict) -> None:
        try:
            args, kwargs = self._decode(request["args"])
            reply = {"value": self._encode(self.callbacks[request["call"]](*args, **kwargs))}
        except wire.Closed:
            raise
        except Exception as error:
            reply = {"raised": type(error).__name__, "args": [str(a) for a in error.args]}
        wire.send(self.fd, reply)


class Proxy:
    """A handle on one of the candidate's objects: it can be called and looked into, and proves nothing by itself."""

    __slots__ = ("_id", "_peer", "_plain")

    def __init__(self, peer: Peer, target: int, plain: bool):
        for name, value in (("_peer", peer), ("_id", target), ("_plain", plain)):
            object.__setattr__(self, name, value)

    def _ask(self, operation: str, *args, **kwargs) -> object:
        peer = object.__getattribute__(self, "_peer")
        return peer.ask(object.__getattribute__(self, "_id"), operation, *args, kwargs=kwargs)

    def _contents(self) -> object:
        """The plain data in it, where its class extends a plain type. Raises TypeError otherwise."""
        value = self._ask("contents") if object.__getattribute__(self, "_plain") else self
        if isinstance(value, Proxy):
            raise TypeError("an object of the code under test is no evidence")
        return value

    def __call__(self, *args, **kwargs):
        return self._ask("call", *args, **kwargs)

    def __getattr__(self, name: str):
        if name.startswith("__") and name not in ("__name__", "__dict__"):
            raise AttributeError(name)
        if object.__getattribute__(self, "_plain"):
            contents = self._contents()
            if isinstance(contents, wire.IMMUTABLE) and hasattr(type(contents), name):
                return getattr(contents, name)  # str.startswith is not for the candidate to answer
        return self._ask("getattr", name)

    def __setattr__(self, name: str, value):
        self._ask("setattr", name, value)

    def __delattr__(self, name: str):
        self._ask("delattr", name)

    def __len__(self):
        return self._ask("len")

    def __getitem__(self, key):
        return self._ask("getitem", key)

    def __setitem__(self, key, value):
        self._ask("setitem", key, value)

    def __delitem__(self, key):
        self._ask("delitem", key)

    def __iter__(self):
        return self._ask("iter")

    def __next__(self):
        return self._ask("next")

    def __contains__(self, value):
        return any(value == item for item in iter(self))  # its own opinion would be no evidence

    def __str__(self):
        return str(self._ask("str"))

    def __repr__(self):
        return str(self._ask("repr"))

    def __bool__(self):
        return bool(self._contents())

    def __eq__(self, other):
        if isinstance(other, Proxy):
            return self._ask("eq", other) is True
        try:
            return self._contents() == other
        except TypeError:
            return False

    def __ne__(self, other):
        return not self == other

    def __hash__(self):
        return self._ask("hash")

    def __instancecheck__(self, instance):
        return isinstance(instance, Proxy) and instance._ask("isinstance", self) is True

    def __subclasscheck__(self, subclass):
        return isinstance(subclass, Proxy) and subclass._ask("issubclass", self) is True

    def __await__(self):
        return self._ask("await")
        yield  # what makes this an iterator, as await wants it

    def __enter__(self):
        return self._ask("getattr", "__enter__")()

    def __exit__(self, kind, error, _):
        silenced = self._ask("exit", kind and kind.__name__, str(error)) is True
        # never the test's own verdict, nor what comes of an object that is no evidence
        return silenced and not issubclass(
            kind or AssertionError, (AssertionError, TypeError, AttributeError, NameError)
        )


def _unary(operation: str):
    return lambda self, *args: self._ask(operation, *args)


def _between_objects(operation: str):
    """Only between two of the candidate's objects: `f(x) - 27` would tell the candidate what is expected of it."""
    return lambda self, other: self._ask(operation, other) if isinstance(other, Proxy) else NotImplemented


for _name in ("reversed", "abs", "int", "float", "complex", "round", "neg", "pos", "invert"):
    setattr(Proxy, f"__{_name}__", _unary(_name))
for _name in ("lt", "le", "gt", "ge", *wire.BINARY):
    setattr(Proxy, f"__{_name.rstrip('_')}__", _between_objects(_name))
