"""The candidate's objects, as the tests see them: handles that can be called and looked into, and prove nothing.

Each class of the candidate is stood for by a class here, so that `type(x) is C` and isinstance work. A handle has the
special methods that its class has there, but for those by which an object would judge itself: it has no truth value,
equals no literal, and only an instance of a class that the tests name takes part in arithmetic with plain data.
An instance of an extension of a plain type, such as a namedtuple, is that plain data here, with that type's own methods.
"""

import dataclasses
import sys
import types
from collections.abc import Callable
from typing import Any

from rewards._sandbox import wire
from rewards._sandbox.callee import BINARY, FORWARDED, IN_PLACE, REFLECTED, WELL_KNOWN, special_of
from rewards._sandbox.session import Session

NO_EVIDENCE = "an object of the code under test is no evidence"
DESCRIBING = {
    "__name__", "__qualname__", "__dict__", "__doc__", "__wrapped__", "__annotations__", "__defaults__", "__self__",
    "__func__", "__code__", "__kwdefaults__", "__members__", "__args__", "__origin__", "__abstractmethods__", "__len__",
    "__iter__", "__call__", "__next__", "__enter__", "__exit__", "__contains__", "__getitem__", "__add__", "__eq__", "__lt__",
    "__hash__", "__repr__", "__str__", "__post_init__", "__init__",
}  # fmt: skip
# what these modules define and raise is the tests' own
TESTING = ("unittest", "doctest", "pytest", "_pytest")
PLAIN = {kind.__name__: kind for kind in (*wire.IMMUTABLE, *wire.MUTABLE)}
_session: Session  # of this process: there is one
plain_bases: dict[type, type | None] = {}
tested: set[str] = set()  # the classes that the tests name
_asserted: dict[str, list[tuple[int, int, int]]] = {}  # of each file: see asserted_lines() in tester.py
_KEY = object()  # no class statement of a test has it


def connect(session: Session) -> None:
    global _session
    _session = session


def keep_asserts(asserted: dict[str, list[tuple[int, int, int]]]) -> None:
    _asserted.update(asserted)


class Remote(type):
    """The class of what stands for the candidate's classes."""

    def __new__(mcs, name: str, bases: tuple, methods: dict, *, plain: type | None = None, key: object = None):
        if key is not _KEY:
            raise TypeError("a class of the code under test can't be extended")
        made = super().__new__(mcs, name, bases, methods)
        plain_bases[made] = plain
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
    return _session.ask(operation, target, *values)


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
    """A handle on an object that isn't plain data."""

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


def _arithmetic(operation: str) -> Callable:
    """Between its objects; with plain data, only for a class that the tests name, and only if it gives an object again.

    `f(x) - 27` would tell the candidate what is expected of it, and give it the last word.
    """

    def method(self, other):
        if isinstance(type(other), Remote):
            return ask(self, operation, other)
        if not is_tested(type(self)):
            return NotImplemented
        value = ask(self, operation, other)
        if not isinstance(type(value), Remote):
            raise TypeError(NO_EVIDENCE)
        return value

    return method


def is_tested(kind: type) -> bool:
    return any(k.__name__ in tested for k in kind.__mro__ if type(k) is Remote)


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
    blocks = _asserted.get(file, [])
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
    **{n: {f"__{n}__": _method(n)} for n in ("next", "reversed", "getitem", "setitem", "delitem", "aiter")},
    **{n: {f"__{n}__": _method(n)} for n in ("abs", "round", "neg", "pos", "invert")},
    **{n: {f"__{n}__": _checked(kind, n)} for n, kind in (("int", int), ("float", float), ("complex", complex))},
    **{n: {f"__{n}__": _compare(n)} for n in ("lt", "le", "gt", "ge")},
    **{n.rstrip("_"): {f"__{n.rstrip('_')}__": _arithmetic(n)} for n in (*BINARY, *REFLECTED, *IN_PLACE)},
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
        parents = tuple(b for b in bases if type(b) is Remote and plain_bases[b] is None) or (Proxy,)
    else:
        methods |= {n: m for s in special if s in OF_VALUES for n, m in SPECIAL[s].items()}
        methods |= {n: _overridden(n) for n in overrides if hasattr(plain, n) and (n in FORWARDED or n[:2] != "__")}
        parents = tuple(b for b in bases if type(b) is Remote and plain_bases[b] is plain)
        parents = parents or ((Value if plain in wire.IMMUTABLE else Extended), plain)
    try:
        return Remote(name, parents, methods, plain=plain, key=_KEY)
    except TypeError:  # parents that don't go together
        return Remote(name, parents[:1] if plain is None else parents[-2:], methods, plain=plain, key=_KEY)


def standard_class(home: str, name: str) -> type | None:
    """The standard library's class of that name, where the tests have imported it; no plain type, and no exception."""
    if home.partition(".")[0] not in sys.stdlib_module_names - set(TESTING) or (home, name) in wire.BUILT:
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


WELL_KNOWN_HERE = {name: _well_known_class(kind) for kind, name in WELL_KNOWN.items()}
