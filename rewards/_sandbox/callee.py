"""The candidate's own process, for asserts: a module whose functions a tester calls.

Neither tests nor expected values ever reach this process, so it has nothing worth searching for; and nothing that it
says but plain data, and handles on the rest, reaches the tester.
"""

import builtins
import collections
import copy
import importlib
import operator
import sys
import types
from collections.abc import Callable

from rewards._sandbox import prelude, wire
from rewards._sandbox.session import Session, is_plain_class

RECURSION_LIMIT = 100_000  # LeetCode's is higher, and is never reached by a solution that it accepts

# what a tester may ask for: builtins and operators by name, those between objects also with the other one first
BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and_", "or_", "xor", "lshift", "rshift")
REFLECTED = [f"r{name.rstrip('_')}" for name in BINARY]
IN_PLACE = [f"i{name.rstrip('_')}" for name in BINARY]


def reflected(operator_: Callable) -> Callable:
    return lambda target, other: operator_(other, target)


OPERATIONS: dict[str, Callable] = {
    name: getattr(builtins if hasattr(builtins, name) else operator, name)
    for name in (
        "len str repr iter next reversed hash abs int float complex round getattr setattr delattr format contains "
        "getitem setitem delitem eq lt le gt ge neg pos invert " + " ".join((*BINARY, *IN_PLACE))
    ).split()
} | {
    "call": lambda target, args, names, values: target(*args, **dict(zip(names, values, strict=True))),
    "method": lambda target, name, *args: OPERATIONS["call"](getattr(target, name), *args),
    **{r: reflected(getattr(operator, name)) for r, name in zip(REFLECTED, BINARY, strict=True)},
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "enter": lambda target: target.__enter__(),
    "exit": lambda target, error: target.__exit__(type(error) if error else None, error, None),
    "await": lambda target: wait_for(target),
    "aiter": lambda target: target.__aiter__(),
    "anext": lambda target: wait_for(target.__anext__()),
    "aenter": lambda target: wait_for(target.__aenter__()),
    "aexit": lambda target, error: wait_for(target.__aexit__(type(error) if error else None, error, None)),
}
# the special methods that a handle on an instance may have, if its class has them
SPECIAL = [
    "str", "repr", "format", "call", "len", "iter", "next", "reversed", "contains", "getitem", "setitem", "delitem",
    "enter", "exit", "await", "aiter", "anext", "aenter", "aexit", "eq", "hash", "lt", "le", "gt", "ge",
    "abs", "int", "float", "complex", "round", "neg", "pos", "invert",
    *(name.rstrip("_") for name in BINARY), *REFLECTED, *IN_PLACE,
]  # fmt: skip
# those that an extension of a mutable type, such as a dict with defaults, may define anew
FORWARDED = ("__getitem__", "__setitem__", "__delitem__", "__missing__", "__call__")
# classes whose objects every program has: both ends know them
WELL_KNOWN = {
    kind: kind.__name__
    for kind in (
        *(types.FunctionType, types.MethodType, types.BuiltinFunctionType),
        *(types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType),
    )
}


_event_loop = None


def wait_for(awaitable: object) -> object:
    """On one event loop for all, as in a test that awaits everything itself: locks and tasks belong to a loop."""
    global _event_loop
    if _event_loop is None:
        asyncio = importlib.import_module("asyncio")
        _event_loop = asyncio.new_event_loop()
        asyncio.set_event_loop(_event_loop)

    async def waiting():
        return await awaitable  # type: ignore[misc]

    return _event_loop.run_until_complete(waiting())


def serve(fd: int, before: str, code: str) -> None:
    """Run a module, tell its names, and then do what the tester asks for, until this process is killed."""
    sys.setrecursionlimit(RECURSION_LIMIT)
    module = sys.modules["solution"] = types.ModuleType("solution")
    session = Candidate(fd, module)
    try:
        session.give(prelude.run(before, vars(module)))
        exec(compile(code, "solution.py", "exec"), vars(module))
    except BaseException as error:
        wire.send(fd, {"failed": type(error).__name__})
        return
    wire.send(fd, {"names": {n: _origin(v) for n, v in list(vars(module).items()) if type(n) is str}})
    while True:
        session.answer(session.receive())


class Candidate(Session):
    def __init__(self, fd: int, module: types.ModuleType):
        super().__init__(fd, first_number=1)
        self.module = module
        self.described: dict[type, ClassOf] = {}

    def perform(self, operation: object, *values: object) -> object:
        if operation == "names":
            self.watched = {name: vars(self.module).get(name) for name in values}
            return tuple(self.watched.values())
        if operation == "forget":
            return self.forget()
        return OPERATIONS[operation](*values)  # type: ignore[index]

    def rebound(self) -> list[tuple[str, object]]:
        now = {name: vars(self.module).get(name) for name in self.watched}
        found = [(name, value) for name, value in now.items() if value is not self.watched[name]]
        self.watched = now
        return found

    def shared_class(self, value: object) -> str | None:
        """By name: the program may have defined the class anew, as its comments often show it."""
        kind = type(value)
        name = kind.__name__
        ours = self.classes.get(name)
        if ours is None or (ours is not kind and not (kind.__module__ == "solution" and is_plain_class(kind))):
            return None
        return name

    def new_copy(self, node: list, built: dict[int, object]) -> object:
        if node[0] == "instance":
            defined = vars(self.module).get(node[3])
            return object.__new__(defined if is_plain_class(defined) else self.classes[node[3]])
        return super().new_copy(node, built)

    def extended(self, node: list, built: dict[int, object]) -> object:
        return self.mine[node[2]]

    # -- handles on what stays here

    def handle(self, value: object, item: Callable, unchanged) -> list:
        if isinstance(value, type):
            name = self.global_name(value)
            return ["global", [], *name] if name else self.class_node(value, value, item)
        if isinstance(value, ClassOf):
            return self.class_node(value, value.kind, item)
        kind = type(value)
        number, new = self.own_number(value)
        if (name := WELL_KNOWN.get(kind)) is not None:
            return ["mine", [], number, "well known", name]
        described = self.described.setdefault(kind, ClassOf(kind)) if self.global_name(kind) else kind
        for base in (*wire.IMMUTABLE, *wire.MUTABLE):
            if not isinstance(value, base) or issubclass(kind, BaseException):
                continue
            if base in wire.IMMUTABLE:
                return ["mine", [item(described), item(contents(value, base))] if new else [], number, "value"]
            held = None if number in unchanged else wire.items_of(self.state(value), item)
            return ["extended", held if base is not bytearray else [bytes(value).hex()], number, item(described)]
        return ["mine", [item(described)] if new else [], number, "object"]

    def global_name(self, kind: type) -> tuple[str, str] | None:
        """(module, name) of a class that the tester has itself."""
        home, name = kind.__module__, kind.__name__
        if self.classes.get(name) is kind:
            return "prelude", name
        if home in ("builtins", *wire.HELPERS) and getattr(sys.modules.get(home), name, None) is kind:
            return home, name
        return None

    def class_node(self, value: object, kind: type, item: Callable) -> list:
        home, name = kind.__module__, kind.__name__
        number, new = self.own_number(value)
        if not new:
            return ["mine", [], number]
        if issubclass(kind, BaseException):
            return ["mine", [], number, "error class", self.error_classes(kind)]
        standard = isinstance(home, str) and home.partition(".")[0] in sys.stdlib_module_names
        bases = [] if standard else [b for b in kind.__bases__ if b is not object and _is_own(b)]
        plain = next((b for b in (*wire.IMMUTABLE, *wire.MUTABLE) if issubclass(kind, b)), None)
        overrides = []
        if plain in wire.MUTABLE:
            between = [n for k in kind.__mro__[: kind.__mro__.index(plain)] for n in vars(k) if hasattr(plain, n)]
            overrides = [n for n in between if n in FORWARDED or not n.startswith("__")]
        fields = getattr(kind, "__dataclass_fields__", None)
        fields = list(fields) if isinstance(fields, dict) else None
        doc = kind.__doc__ if type(kind.__doc__) is str else None
        described = [name, str(home), plain and plain.__name__, special_of(kind, plain), overrides, fields, doc]
        return ["mine", [item(b) for b in bases], number, "class", *described]

    def class_number(self, kind: type) -> int | None:
        home = str(kind.__module__).partition(".")[0]
        known = home in sys.stdlib_module_names or self.given.get(kind.__name__) is kind
        return None if known else self.own_number(kind)[0]

    # -- what the tests pass in

    def stand_in(self, node: list, values: list) -> object:
        if node[3] == "callback":

            def callback(*args, **kwargs):
                return self.ask("call", callback, args, tuple(kwargs), tuple(kwargs.values()))

            callback.__name__ = callback.__qualname__ = node[4]
            callback.__doc__ = node[5]
            return callback
        if node[3] == "fields":
            return collections.namedtuple(node[4], node[5])._make(values)
        return stub_class(self, node[4], tuple(node[5]))()

    def known_global(self, module: str, name: str) -> object:
        if module == "prelude":
            defined = vars(self.module).get(name)
            return defined if is_plain_class(defined) else self.classes[name]
        value: object = importlib.import_module(module)
        for part in name.split("."):
            value = getattr(value, part)
        return value

    def error_class(self, classes: list, text: str | None = None) -> type:
        for name, module, _, number in classes:
            if number is not None:
                return self.mine[number]  # type: ignore[return-value]
            kind = self.given.get(name) if module == "prelude" else getattr(sys.modules.get(module), name, None)
            if isinstance(kind, type) and issubclass(kind, BaseException):
                wanted = classes[0][0]
                return kind if wanted == name else type(wanted, (kind,), {})
        return RuntimeError


def special_of(kind: type, plain: type | None) -> list[str]:
    """The special methods that a class has beyond those of the plain type, or of `object`."""
    return [n for n in SPECIAL if method_of(kind, n) not in (None, method_of(plain or object, n))]


def method_of(kind: type, special: str) -> object:
    return next((vars(k)[name] for k in kind.__mro__ if (name := f"__{special}__") in vars(k)), None)


class ClassOf:
    """A class that the tester has itself, as that of an object which it has a handle on only."""

    def __init__(self, kind: type):
        self.kind = kind


def _is_own(kind: type) -> bool:
    return str(kind.__module__).partition(".")[0] not in sys.stdlib_module_names


def contents(value: object, base: type) -> object:
    """The plain data in an instance of a subclass, read by the base type's own methods."""
    if base is dict:
        return dict(dict.items(value))  # type: ignore[arg-type]
    if base is int:
        return int.__index__(value)
    if base is float:
        return float.fromhex(float.hex(value))
    if base is complex:
        return complex.__pos__(value)
    if base in (str, bytes):
        return base.__getitem__(value, slice(None))
    return base(base.__iter__(value))


def stub_class(session: Session, name: str, special: tuple[str, ...]) -> type:
    """The class of what stands for an object of the tests: everything that is done to it is done there."""

    def forward(operation: str) -> Callable:
        return lambda self, *args: session.ask(operation, self, *args)

    methods: dict[str, Callable] = {f"__{n}__": forward(n) for n in special}
    if "call" in special:
        methods["__call__"] = lambda self, *args, **kwargs: session.ask(
            "call", self, args, tuple(kwargs), tuple(kwargs.values())
        )
    methods["__getattr__"] = forward("getattr")
    methods["__setattr__"] = forward("setattr")
    if "iter" in special and "next" in special:
        methods["__iter__"] = lambda self: self
    if "exit" in special:
        methods["__exit__"] = lambda self, kind, error, _: session.ask("exit", self, error)
    return type(name, (), methods)


def _origin(value: object) -> list[str] | None:
    """[module, name in it] of what the code imported from a helper module, None of all else."""
    home, name = getattr(value, "__module__", None), getattr(value, "__name__", None)
    if (
        type(home) is str
        and home in wire.HELPERS
        and type(name) is str
        and getattr(sys.modules.get(home), name, None) is value
    ):
        return [home, name]
    return None
