"""Handles on the candidate's objects, as tests see them: they can be called and looked into, and prove nothing by themselves.

A handle has no truth value, equals nothing but another of the candidate's objects, and takes part in no arithmetic with
what the test expects. It can do what its object's class can, and no more: what can't be called isn't callable here.
"""

import ast
import functools
import types

from rewards._sandbox import wire

# beside these, names between double underscores are the handle's own
TOLD = ("__name__", "__qualname__", "__doc__", "__dict__", "__wrapped__", "__annotations__", "__module__")
KINDS = {"function": types.FunctionType, "generator": types.GeneratorType, "coroutine": types.CoroutineType}


def ask(proxy: "Proxy", operation: str, *args, **kwargs) -> object:
    peer, target, _ = object.__getattribute__(proxy, "_Proxy__link")
    return peer.ask(target, operation, *args, kwargs=kwargs)


def target_of(proxy: "Proxy") -> int:
    return object.__getattribute__(proxy, "_Proxy__link")[1]


def plain(proxy: "Proxy") -> bool:
    return object.__getattribute__(proxy, "_Proxy__link")[2]


def contents(proxy: "Proxy") -> object:
    """The plain data in it, where its class extends a plain type. Raises TypeError otherwise."""
    value = ask(proxy, "contents") if plain(proxy) else proxy
    if isinstance(value, Proxy):
        raise TypeError("an object of the code under test is no evidence")
    return value


def object_only(value: object) -> object:
    """A copy of an object is an object: `__copy__` could return what the test expects."""
    if not isinstance(value, Proxy):
        raise TypeError("a copy that is plain data")
    return value


class Proxy:
    """A handle; the subclasses that `make` builds add what the object can do."""

    __slots__ = ("__link",)

    def __init__(self, peer, target: int, is_plain: bool):
        object.__setattr__(self, "_Proxy__link", (peer, target, is_plain))

    def __getattribute__(self, name: str):
        if name in TOLD:
            return ask(self, "getattr", name)
        if name.startswith("__"):
            return object.__getattribute__(self, name)
        if plain(self):
            inside = contents(self)
            if isinstance(inside, wire.IMMUTABLE) and hasattr(type(inside), name):
                return getattr(inside, name)  # str.startswith is not for the candidate to answer
        return ask(self, "getattr", name)

    def __setattr__(self, name: str, value):
        ask(self, "setattr", name, value)

    def __delattr__(self, name: str):
        ask(self, "delattr", name)

    def __str__(self):
        return str(ask(self, "str"))

    def __repr__(self):
        return str(ask(self, "repr"))

    def __format__(self, spec: str):
        return str(ask(self, "format", spec))

    def __bool__(self):
        return bool(contents(self))

    def __eq__(self, other):
        if isinstance(other, Proxy):
            return ask(self, "eq", other) is True
        try:
            return contents(self) == other
        except TypeError:
            return False

    def __ne__(self, other):
        return not self == other

    def __hash__(self):
        return ask(self, "hash")

    def __copy__(self):
        return object_only(ask(self, "copy"))

    def __deepcopy__(self, _):
        return object_only(ask(self, "deepcopy"))

    def __reduce_ex__(self, _):
        raise TypeError("an object of the code under test is not pickled")

    def __instancecheck__(self, instance):
        return isinstance(instance, Proxy) and ask(instance, "isinstance", self) is True

    def __subclasscheck__(self, subclass):
        return isinstance(subclass, Proxy) and ask(subclass, "issubclass", self) is True


def _contains(self, value):
    try:
        return any(value == item for item in iter(ask(self, "iter")))  # its own opinion would be no evidence
    except TypeError:
        return ask(self, "contains", value) is True


def _await(self):
    return ask(self, "await")
    yield  # what makes this an iterator, as await wants it


async def _anext(self):
    return ask(self, "anext")


def _exit(self, kind, error, trace):
    silenced = ask(self, "exit", kind and kind.__name__, str(error)) is True
    # never the test's own verdict, nor what comes of an object that is no evidence
    proof = issubclass(kind or AssertionError, (AssertionError, TypeError, AttributeError, NameError))
    return silenced and not proof and not asserts_follow(trace)


def asserts_follow(trace: types.TracebackType | None) -> bool:
    """Whether asserts of the `with` block in which this was raised would be passed over."""
    if trace is None or (source := SOURCES.get(trace.tb_frame.f_code.co_filename)) is None:
        return False
    blocks = [
        n
        for n in ast.walk(source)
        if isinstance(n, (ast.With, ast.AsyncWith)) and n.lineno <= trace.tb_lineno <= n.end_lineno
    ]
    inner = max(blocks, key=lambda n: n.lineno, default=None)
    return inner is not None and any(
        isinstance(n, ast.Assert) and n.end_lineno >= trace.tb_lineno for n in ast.walk(inner)
    )


SOURCES: dict[str, ast.AST] = {}  # syntax trees of the tests, by the file name that they were compiled under


def _unary(operation: str):
    return lambda self, *args: ask(self, operation, *args)


def _between_objects(operation: str):
    """Only between two of the candidate's objects: `f(x) - 27` would tell the candidate what is expected of it."""
    return lambda self, other: ask(self, operation, other) if isinstance(other, Proxy) else NotImplemented


for _name in ("abs", "int", "float", "complex", "round", "neg", "pos", "invert"):
    setattr(Proxy, f"__{_name}__", _unary(_name))
for _name in ("lt", "le", "gt", "ge", *wire.BINARY, *(f"i{_name.rstrip('_')}" for _name in wire.BINARY)):
    setattr(Proxy, f"__{_name.rstrip('_')}__", _between_objects(_name))

ABILITIES = {
    "__call__": lambda self, *args, **kwargs: ask(self, "call", *args, **kwargs),
    "__len__": _unary("len"),
    "__getitem__": _unary("getitem"),
    "__setitem__": _unary("setitem"),
    "__delitem__": _unary("delitem"),
    "__iter__": _unary("iter"),
    "__next__": _unary("next"),
    "__reversed__": _unary("reversed"),
    "__contains__": _contains,
    "__await__": _await,
    "__aiter__": lambda self: self,
    "__anext__": _anext,
    "__enter__": lambda self: ask(self, "getattr", "__enter__")(),
    "__exit__": _exit,
}


@functools.cache
def kind_of(able: tuple[str, ...], kind: str) -> type:
    """The class of handles on objects that are able to do so much."""
    methods = {name: ABILITIES[name] for name in able if name in ABILITIES}
    if "__iter__" in methods:
        methods.setdefault("__contains__", _contains)
    if kind in KINDS:
        methods["__class__"] = property(lambda self: KINDS[kind])
    return type("Proxy", (Proxy,), {"__slots__": (), **methods})


def type_of(value: object) -> object:
    """`type`, for which an object of the candidate is of the candidate's class."""
    return ask(value, "type") if issubclass(type(value), Proxy) else type(value)
