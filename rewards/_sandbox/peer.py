"""The candidate, as the tests' process sees it: what is taken from it, and what it may do with what the tests pass in."""

import builtins
import collections.abc
import importlib
import io
import sys
import types
from collections.abc import Callable

from rewards._sandbox import handles, wire
from rewards._sandbox.callee import OPERATIONS, contents
from rewards._sandbox.handles import PLAIN, Extended, Remote
from rewards._sandbox.session import Session


class Peer(Session):
    """The candidate: questions go out, plain data and handles come back."""

    def __init__(self, fd: int):
        super().__init__(fd, first_number=2)
        self.namespace: dict[str, object] = {}  # of the tests
        self.solution = types.ModuleType("solution")  # for tests that import from it
        handles.connect(self)

    def ask(self, operation: str, *values: object) -> object:
        with self.lock:
            if self.is_full():
                super().ask("forget")
                self.forget()
            return super().ask(operation, *values)

    def outcome(self, operation: str, message: dict) -> object:
        try:
            return super().outcome(operation, message)
        except StopIteration as error:
            if operation != "next":  # or all(map(f, ...)) would end early, and be true
                raise RuntimeError("StopIteration") from error
            raise
        except StopAsyncIteration as error:
            if operation != "anext":
                raise RuntimeError("StopAsyncIteration") from error
            raise
        except Exception as error:
            if type(error).__module__.partition(".")[0] in handles.TESTING:
                raise RuntimeError(type(error).__name__) from error
            raise

    def take_rebound(self, names: dict) -> None:
        for name in self.watched.keys() & names.keys():
            if self.namespace.get(name) is self.watched[name]:  # no test has bound it since
                self.namespace[name] = names[name]
            self.watched[name] = names[name]
            setattr(self.solution, name, names[name])

    # -- what comes from the candidate

    def stand_in(self, node: list, values: list) -> object:
        _, _, number, what, *rest = node
        if what == "error class":
            kind = self.error_class(rest[0])
            if self.numbers.get(id(kind), number) != number or getattr(builtins, kind.__name__, None) is kind:
                raise ValueError("another exception class")
            return kind
        if what == "class":
            name, home, plain = rest[:3]
            return handles.remote_class(str(name), str(home), plain and PLAIN[plain], values, *rest[3:])
        if what == "well known":
            return object.__new__(handles.WELL_KNOWN_HERE[rest[0]])
        kind = values[0]
        if type(kind) is not Remote:
            raise TypeError("an object without a class")
        plain = handles.plain_bases[kind]
        if what == "value" and plain in wire.IMMUTABLE and type(values[1]) is plain:
            return plain.__new__(kind, values[1])
        if what == "object" and plain is None:
            return object.__new__(kind)
        raise ValueError(f"{what!r} isn't a kind of object")

    def extended(self, node: list, built: dict[int, object]) -> object:
        number, place = node[2], node[3]
        if number not in self.theirs:
            self.check_new(number)
            kind = built[place[0]]
            if type(kind) is not Remote or handles.plain_bases[kind] not in wire.MUTABLE:
                raise ValueError("no extension of a mutable type")
            value = handles.plain_bases[kind].__new__(kind)
            self.numbers[id(value)], self.theirs[number] = number, value
        value = self.theirs[number]
        if not isinstance(value, Extended):
            raise ValueError("another kind of object")
        return value

    def known_global(self, module: str, name: str) -> object:
        if module == "prelude":
            return self.classes[name]
        value = getattr(importlib.import_module(module), name) if module in ("builtins", *wire.HELPERS) else None
        if not isinstance(value, type):
            raise ValueError(f"{module}.{name}")
        return value

    def error_class(self, classes: list, text: str | None = None) -> type:
        """An exception class of this process: the builtin one, or one that stands for the candidate's own."""
        known: dict[str, type] = {}
        for name, module, bases, number in reversed(classes):
            if number in self.theirs:
                kind = self.theirs[number]
            elif module == "prelude" and name in self.given:
                kind = self.given[name]
            elif number is None:
                kind = getattr(sys.modules.get(module), name, None)
                if module.partition(".")[0] not in sys.stdlib_module_names:
                    kind = None
            else:
                parents = tuple(known[b] for b in bases if b in known) or (Exception,)
                try:
                    kind = type(name, parents, {"__module__": "solution", "__str__": _message})
                except TypeError:
                    kind = type(name, parents[:1], {"__module__": "solution", "__str__": _message})
                self.check_new(number)
                self.numbers[id(kind)], self.theirs[number] = number, kind
            if not (isinstance(kind, type) and issubclass(kind, BaseException)):
                kind = RuntimeError
            known[name] = kind
        kind = known[classes[0][0]]
        return kind if issubclass(kind, Exception) else RuntimeError

    def new_error(self, node: list, values: list) -> BaseException:
        error = super().new_error(node, values)
        if type(values[0]) is str and type(error).__module__ == "solution":
            vars(error)["__told__"] = values[0]
        return error

    # -- what the tests pass in

    def given_back(self, value: object, number: int, item: Callable) -> list:
        if isinstance(value, Extended):
            held = [bytes(value).hex()] if isinstance(value, bytearray) else wire.items_of(self.state(value), item)
            return ["extended", held, number, None]
        return ["yours", [], number]

    def class_number(self, kind: type) -> int | None:
        number = self.numbers.get(id(kind))
        return number if number in self.theirs else None

    def handle(self, value: object, item: Callable, unchanged) -> list:
        kind = type(value)
        if isinstance(value, (types.ModuleType, types.FrameType, types.CodeType, types.TracebackType)):
            raise TypeError(f"a test can't pass a {kind.__name__} to the code")
        home, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
        if isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType, types.MethodDescriptorType)):
            if self.classes.get(name) is value:
                return ["global", [], "prelude", name]
            if isinstance(value, types.MethodDescriptorType):
                home = value.__objclass__.__module__
            if standard_global(home, name) is value:
                return ["global", [], home, name]
        elif isinstance(value, tuple) and hasattr(kind, "_fields"):
            number, _ = self.own_number(value)
            return ["mine", [item(v) for v in value], number, "fields", kind.__name__, list(kind._fields)]
        elif isinstance(value, PLAIN_TYPES):
            return ["same", [item(contents(value, next(b for b in PLAIN_TYPES if isinstance(value, b))))]]
        number, _ = self.own_number(value)
        if is_function(value):
            described = getattr(value, "__name__", "callback"), getattr(value, "__doc__", None)
            return ["mine", [], number, "callback", *(d if type(d) is str else None for d in described)]
        special = ["iter", "next"] if is_iterator(value) else [n for n in STUBBED if hasattr(kind, f"__{n}__")]
        return ["mine", [], number, "object", kind.__name__, special]

    def perform(self, operation: object, *values: object) -> object:
        """What the candidate may do with an object of the tests: call it, go through it, use what it has in public."""
        target, *args = values
        if self.numbers.get(id(target)) not in self.mine:
            raise TypeError("no object of the tests")
        if operation == "call" and callable(target):
            positional, names, named = args
            return target(*positional, **dict(zip(names, named, strict=True)))
        if is_function(target):
            raise TypeError("a function can only be called")
        if operation == "next":
            return next(target)  # type: ignore[call-overload]
        if is_iterator(target):
            raise AttributeError(str(operation))
        if operation in ("getattr", "setattr"):
            name = args[0]
            if type(name) is not str or name.startswith("_"):
                raise AttributeError(str(name))
            if operation == "getattr":
                return getattr(target, name)
            if callable(getattr(type(target), name, None)):
                raise AttributeError(f"{name} is a method")
            return setattr(target, name, args[1])
        if operation in STUBBED and operation != "call":
            return (bool if operation == "bool" else OPERATIONS[operation])(target, *args)
        raise TypeError(str(operation))


# what may be done to an object of the tests
STUBBED = (
    "call", "len", "iter", "next", "contains", "getitem", "setitem", "delitem", "enter", "exit", "eq", "hash", "lt", "le",
    "gt", "ge", "str", "repr", "bool", "add", "sub", "mul", "abs", "neg", "int", "float",
)  # fmt: skip
PLAIN_TYPES = (*wire.MUTABLE, *wire.IMMUTABLE)


def standard_global(home: object, name: object) -> object:
    if type(home) is not str or type(name) is not str or home.partition(".")[0] not in sys.stdlib_module_names:
        return None
    value: object = sys.modules.get(home)
    for part in name.split("."):
        value = getattr(value, part, None)
    return value


def is_function(value: object) -> bool:
    """What the candidate may only call, since its attributes lead to everything that the tests know."""
    kinds = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, types.MethodDescriptorType, type)
    home = type(value).__module__
    return isinstance(value, kinds) or (callable(value) and home in sys.stdlib_module_names and home != "unittest.mock")


def is_iterator(value: object) -> bool:
    iterator = isinstance(value, collections.abc.Iterator) and not isinstance(value, io.IOBase)
    return iterator and type(value).__module__ != "tests"


def _message(error: BaseException) -> str:
    message = vars(error).get("__told__")
    standard = next(kind for kind in type(error).__mro__ if kind.__module__ != "solution")
    return message if type(message) is str else standard.__str__(error)
