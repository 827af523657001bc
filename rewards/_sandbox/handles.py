"""The candidate's objects, as the tests see them: handles that can be called and looked into, and prove nothing.

Each class of the candidate is stood for by a class here, so that `type(x) is C` and isinstance work. A handle has the
special methods that its class has there, but for those by which an object would judge itself: it has no truth value,
equals no literal, and only an instance of a class that the tests name takes part in arithmetic with plain data.
An instance of an extension of a plain type, such as a namedtuple, is that plain data here, with that type's own methods.
"""

import builtins
import collections.abc
import dataclasses
import importlib
import io
import sys
import types
from collections.abc import Callable
from typing import Any

from rewards._sandbox import wire
from rewards._sandbox.callee import BINARY, IN_PLACE, OPERATIONS, REFLECTED, WELL_KNOWN, contents, special_of
from rewards._sandbox.session import Session

NO_EVIDENCE = "an object of the code under test is no evidence"
DESCRIBING = {
    "__name__", "__qualname__", "__dict__", "__doc__", "__wrapped__", "__annotations__", "__defaults__", "__self__",
    "__func__", "__code__", "__kwdefaults__", "__members__", "__args__", "__origin__", "__abstractmethods__", "__len__",
    "__iter__", "__call__", "__next__", "__enter__", "__exit__", "__contains__", "__getitem__", "__add__", "__eq__", "__lt__",
    "__hash__", "__repr__", "__str__", "__post_init__", "__init__",
}  # fmt: skip
PLAIN = {kind.__name__: kind for kind in (*wire.IMMUTABLE, *wire.MUTABLE)}
# raised by the candidate, these would end a test without a verdict, or a loop before its end
NOT_ITS_TO_RAISE = ("unittest", "doctest", "pytest", "_pytest")


class Peer(Session):
    """The candidate: questions go out, plain data and handles come back."""

    def __init__(self, fd: int):
        super().__init__(fd, first_number=2)
        self.errors: dict[tuple, type] = {}
        self.tested: set[str] = set()  # classes that the tests name
        self.asserted: dict[str, list[tuple[int, int, int]]] = {}
        global _peer
        _peer = self

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
            if type(error).__module__.partition(".")[0] in NOT_ITS_TO_RAISE:
                raise RuntimeError(type(error).__name__) from error
            raise

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
            return remote_class(str(name), str(home), plain and PLAIN[plain], values, *rest[3:])
        if what == "well known":
            return object.__new__(_well_known[rest[0]])
        kind = values[0]
        if type(kind) is not Remote:
            raise TypeError("an object without a class")
        plain = _plain_bases[kind]
        if what == "value" and plain in wire.IMMUTABLE and type(values[1]) is plain:
            return plain.__new__(kind, values[1])
        if what == "object" and plain is None:
            return object.__new__(kind)
        raise ValueError(f"{what!r} is no kind of object")

    def extended(self, node: list, built: dict[int, object]) -> object:
        number, place = node[2], node[3]
        if number not in self.theirs:
            kind = built[place[0]]
            if (
                type(kind) is not Remote
                or _plain_bases[kind] not in wire.MUTABLE
                or number in self.mine
                or number in self.copies
            ):
                raise ValueError("no extension of a mutable type")
            value = _plain_bases[kind].__new__(kind)
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
            elif number is None:
                kind = getattr(sys.modules.get(module), name, None)
                if module.partition(".")[0] not in sys.stdlib_module_names:
                    kind = None
            else:
                parents = tuple(known[b] for b in bases if b in known) or (Exception,)
                try:
                    kind = type(name, parents, {"__module__": "solution", "__str__": _told})
                except TypeError:
                    kind = type(name, parents[:1], {"__module__": "solution", "__str__": _told})
                if type(number) is not int or number in self.mine or number in self.copies:
                    raise ValueError(f"number {number!r}")
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
            held = self.state(value)
            return [
                "extended",
                [bytes(held[0]).hex()] if isinstance(value, bytearray) else wire.items_of(held, item),
                number,
                None,
            ]
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
STUBBED = [
    "call",
    "len",
    "iter",
    "next",
    "getitem",
    "setitem",
    "delitem",
    "contains",
    "enter",
    "exit",
    "eq",
    "lt",
    "le",
    "gt",
    "ge",
    "hash",
    "str",
    "repr",
    "bool",
    "add",
    "sub",
    "mul",
    "abs",
    "neg",
    "int",
    "float",
]
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


def _told(error: BaseException) -> str:
    told = vars(error).get("__told__")
    return told if type(told) is str else type(error).__mro__[-3].__str__(error)


# -- what stands for the candidate's classes and objects

_peer: Peer  # of this process: there is one
_plain_bases: dict[type, type | None] = {}
_KEY = object()  # no class statement of a test has it


class Remote(type):
    """The class of what stands for the candidate's classes."""

    def __new__(mcs, name: str, bases: tuple, methods: dict, *, plain: type | None = None, key: object = None):
        if key is not _KEY:
            raise TypeError("a class of the code under test can't be extended")
        made = super().__new__(mcs, name, bases, methods)
        _plain_bases[made] = plain
        return made

    def __init__(cls, name: str, bases: tuple, methods: dict, **_):
        super().__init__(name, bases, methods)

    def __call__(cls, *args, **kwargs):
        return ask(cls, "call", args, tuple(kwargs), tuple(kwargs.values()))

    def __getattr__(cls, name: str):
        if name.startswith("__") and name not in DESCRIBING:
            raise AttributeError(name)
        return ask(cls, "getattr", name)

    def __setattr__(cls, name: str, value):
        ask(cls, "setattr", name, value)

    def __iter__(cls):
        return ask(cls, "iter")

    def __len__(cls):
        return ask(cls, "len")

    def __getitem__(cls, key):
        return ask(cls, "getitem", key)

    def __contains__(cls, value):
        return any(value is item or value == item for item in ask(cls, "iter"))

    def __bool__(cls):
        return True  # as every class is


def ask(target: object, operation: str, *values: object) -> object:
    return _peer.ask(operation, target, *values)


def _checked(kind: type, operation: str) -> Callable:
    """A special method whose result must be of that type, as Python wants it."""

    def method(self, *args):
        value = ask(self, operation, *args)
        if type(value) is not kind:
            raise TypeError(f"{operation} gives no {kind.__name__}")
        return value

    return method


def _copied(operation: str) -> Callable:
    def method(self, *_):
        value = ask(self, operation)
        if type(value) is not type(self):
            raise TypeError("a copy of another class")
        return value

    return method


class _Attributes:
    """What has no value here is asked for there."""

    __slots__ = ()
    __copy__ = _copied("copy")
    __deepcopy__ = _copied("deepcopy")

    def __getattr__(self, name: str):
        if name.startswith("__") and name not in DESCRIBING:
            raise AttributeError(name)
        return ask(self, "getattr", name)

    def __setattr__(self, name: str, value):
        ask(self, "setattr", name, value)

    def __delattr__(self, name: str):
        ask(self, "delattr", name)

    def __reduce_ex__(self, protocol):
        raise TypeError(NO_EVIDENCE)


class Proxy(_Attributes):
    """A handle on an object that is no plain data."""

    __slots__ = ()
    __array_ufunc__ = None  # or an empty array would compare itself with it
    __str__, __repr__ = _checked(str, "str"), _checked(str, "repr")
    __format__ = _checked(str, "format")
    __dict__ = property(lambda self: ask(self, "getattr", "__dict__"))  # type: ignore[assignment]
    __doc__ = property(lambda self: ask(self, "getattr", "__doc__"))  # type: ignore[assignment]

    def __bool__(self):
        raise TypeError(NO_EVIDENCE)

    def __eq__(self, other):
        if not isinstance(type(other), Remote):
            return NotImplemented
        return self is other

    __hash__ = object.__hash__


class Value(_Attributes):
    """Plain data whose class the candidate has extended."""

    __slots__ = ()


class Extended(_Attributes):
    """The same of a mutable type: brought up to date whenever it crosses."""

    __slots__ = ()

    def __getattr__(self, name: str):
        value = super().__getattr__(name)
        # a bound method would change the object there, unseen here
        return _on_this(self, name) if type(value).__name__ == "method" and type(type(value)) is Remote else value


def _on_this(target: object, name: str) -> Callable:
    return lambda *args, **kwargs: ask(target, "method", name, args, tuple(kwargs), tuple(kwargs.values()))


def _method(operation: str) -> Callable:
    return lambda self, *args: ask(self, operation, *args)


FORWARDED = ("__getitem__", "__setitem__", "__delitem__", "__missing__", "__call__")


def _overridden(name: str) -> Callable:
    if name in ("__getitem__", "__setitem__", "__delitem__"):
        return _method(name.strip("_"))
    if name == "__call__":
        return _call
    return lambda self, *args, **kwargs: _on_this(self, name)(*args, **kwargs)


def _call(self, *args, **kwargs):
    return ask(self, "call", args, tuple(kwargs), tuple(kwargs.values()))


def _equal(self, other):
    if not isinstance(type(other), Remote):
        return NotImplemented
    return ask(self, "eq", other) is True


def _compare(operation: str) -> Callable:
    """Only between two of the candidate's objects: `f(x) < 27` would be for the candidate to decide."""
    return lambda self, other: ask(self, operation, other) if isinstance(type(other), Remote) else NotImplemented


def _arithmetic(operation: str, reflected: bool = False) -> Callable:
    """Between its objects; with plain data, only for a class that the tests name, and only if it gives an object again.

    `f(x) - 27` would tell the candidate what is expected of it, and give it the last word.
    """

    def method(self, other):
        if isinstance(type(other), Remote):
            return ask(other, operation, self) if reflected else ask(self, operation, other)
        if not is_tested(type(self)):
            return NotImplemented
        value = (
            ask(self, "getattr", f"__r{operation.rstrip('_')}__")(other) if reflected else ask(self, operation, other)
        )
        if not isinstance(type(value), Remote):
            raise TypeError(NO_EVIDENCE)
        return value

    return method


def is_tested(kind: type) -> bool:
    return any(k.__name__ in _peer.tested for k in kind.__mro__ if type(k) is Remote)


def _contains(self, value):
    """Its own opinion is evidence only where the class is what the tests are about."""
    if is_tested(type(self)):
        return ask(self, "contains", value) is True
    return _among(self, value)


def _among(self, value):
    return any(value is item or value == item for item in iter(self))


def _await(self):
    return ask(self, "await")
    yield  # what makes this an iterator, as await wants it


def _send(self, value):
    result = StopIteration()
    result.value = ask(self, "await")
    raise result


def _anext(self):
    async def following():
        return ask(self, "anext")

    return following()


def _aenter(self):
    async def entered():
        return ask(self, "aenter")

    return entered()


def _exit(self, kind, error, trace):
    return ask(self, "exit", _own(error)) is True and may_silence(error, trace)


def _aexit(self, kind, error, trace):
    async def left():
        return ask(self, "aexit", _own(error)) is True and may_silence(error, trace)

    return left()


def _own(error: BaseException | None) -> BaseException | None:
    """A test's own verdict is none of the candidate's business."""
    return AssertionError() if isinstance(error, AssertionError) else error


def may_silence(error: BaseException | None, trace: types.TracebackType | None) -> bool:
    """Never the test's verdict, nor what comes of an object that is no evidence, nor what keeps an assert from being run."""
    if error is None or isinstance(error, (AssertionError, TypeError, AttributeError, NameError, wire.Closed)):
        return False
    if trace is None or not isinstance(error, Exception):
        return False
    file, line = trace.tb_frame.f_code.co_filename, trace.tb_lineno
    blocks = _peer.asserted.get(file, [])
    return not any(first <= line <= min(end, last_assert) for first, end, last_assert in blocks)


SPECIAL: dict[str, dict[str, Callable]] = {
    **{n: {f"__{n}__": _checked(str, n)} for n in ("str", "repr", "format")},
    "call": {"__call__": _call},
    "len": {"__len__": _checked(int, "len")},
    "iter": {"__iter__": _method("iter"), "__contains__": _among},
    "contains": {"__contains__": _contains},
    "eq": {"__eq__": _equal},
    "hash": {"__hash__": _checked(int, "hash")},
    "await": {"__await__": _await},
    "anext": {"__anext__": _anext},
    "aenter": {"__aenter__": _aenter},
    "aexit": {"__aexit__": _aexit},
    "exit": {"__exit__": _exit},
    "enter": {"__enter__": _method("enter")},
    **{n: {f"__{n}__": _method(n)} for n in ["next", "reversed", "getitem", "setitem", "delitem", "aiter", "abs", "round", "neg", "pos", "invert"]},
    **{n: {f"__{n}__": _checked(kind, n)} for n, kind in (("int", int), ("float", float), ("complex", complex))},
    **{n: {f"__{n}__": _compare(n)} for n in ("lt", "le", "gt", "ge")},
    **{n.rstrip("_"): {f"__{n.rstrip('_')}__": _arithmetic(n)} for n in BINARY},
    **{n: {f"__{n}__": _arithmetic(of, reflected=True)} for n, of in REFLECTED.items()},
    **{n: {f"__{n}__": _arithmetic(n)} for n in IN_PLACE},
}  # fmt: skip
# what an extension of a plain type may define anew: how it looks, and what it does with others of the candidate's objects
OF_VALUES = {"str", "repr", "call", "lt", "le", "gt", "ge", *(n.rstrip("_") for n in BINARY), *REFLECTED, *IN_PLACE}


def remote_class(name: str, home: str, plain: type | None, bases: list, special: list, overrides: list,
                 fields: list | None, doc: str | None, looks: type | None = None) -> type:  # fmt: skip
    """What stands for a class of the candidate: `looks` is what its objects look like to isinstance()."""
    methods: dict[str, Any] = {"__slots__": (), "__module__": home, "__doc__": doc}
    if plain is None:
        methods |= {n: m for s in special for n, m in SPECIAL.get(s, {}).items()}
        if "hash" not in special and "eq" in special:
            methods["__hash__"] = None
        looks = looks or standard_class(home, name)
        if looks is not None:
            methods["__class__"] = property(lambda self: looks)
        if fields is not None:
            made = dataclasses.make_dataclass("fields", list(map(str, fields)))
            methods["__dataclass_fields__"] = made.__dataclass_fields__
        parents = tuple(b for b in bases if type(b) is Remote and _plain_bases[b] is None) or (Proxy,)
    else:
        methods |= {n: m for s in special if s in OF_VALUES for n, m in SPECIAL[s].items()}
        methods |= {n: _overridden(n) for n in overrides if hasattr(plain, n) and (n in FORWARDED or n[:2] != "__")}
        parents = tuple(b for b in bases if type(b) is Remote and _plain_bases[b] is plain)
        parents = parents or ((Value if plain in wire.IMMUTABLE else Extended), plain)
    try:
        return Remote(name, parents, methods, plain=plain, key=_KEY)
    except TypeError:  # parents that don't go together
        return Remote(name, parents[:1] if plain is None else parents[-2:], methods, plain=plain, key=_KEY)


def standard_class(home: str, name: str) -> type | None:
    """The standard library's class of that name, where the tests have imported it; no plain type, and no exception."""
    if home.partition(".")[0] not in sys.stdlib_module_names - set(NOT_ITS_TO_RAISE):
        return None
    kind = getattr(sys.modules.get(home), name, None)
    return kind if isinstance(kind, type) and not issubclass(kind, (*PLAIN.values(), BaseException)) else None


def _well_known_class(kind: type) -> type:
    made = remote_class(kind.__name__, "builtins", None, [], special_of(kind, None), [], None, None, looks=kind)
    if kind is types.CoroutineType:  # for an event loop
        for name, method in (("send", _send), ("throw", _send), ("close", lambda self: None)):
            type.__setattr__(made, name, method)
    elif kind is not types.GeneratorType:  # functions say what they do
        type.__setattr__(made, "__doc__", vars(Proxy)["__doc__"])
    return made


_well_known = {name: _well_known_class(kind) for kind, name in WELL_KNOWN.items()}
