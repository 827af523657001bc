"""What crosses between a candidate and its tests: plain data, structures of the prelude's classes, and handles on the rest.

Tagged JSON behind a length. Never pickle: whoever unpickles runs what the sender wrote. Types are exact: a tuple stays a
tuple, an integer key stays an integer. Instances of a class that the row's prelude defines (ListNode, TreeNode) cross as
their attributes and are rebuilt from the receiver's own class, in a table, so that cycles, shared nodes and 10,000 links
need no recursion. What is none of these stays where it is, and crosses as a handle.
"""

import builtins
import collections
import datetime
import decimal
import fractions
import functools
import importlib
import json
import os
import re
import struct
import sys
from collections.abc import Callable

MAX_MESSAGE = 32 << 20  # bytes
MAX_DEPTH = 400

# tag -> (type, what its constructor takes, as plain data)
BUILT = {
    "tuple": (tuple, lambda x: [list(tuple.__iter__(x))]),
    "set": (set, lambda x: [list(set.__iter__(x))]),
    "frozenset": (frozenset, lambda x: [list(frozenset.__iter__(x))]),
    "deque": (collections.deque, lambda x: [list(collections.deque.__iter__(x)), x.maxlen]),
    "bytearray": (bytearray, lambda x: [bytes(x)]),
    "Counter": (collections.Counter, lambda x: [dict(dict.items(x))]),
    "OrderedDict": (collections.OrderedDict, lambda x: [[list(pair) for pair in x.items()]]),
    "defaultdict": (
        collections.defaultdict,
        lambda x: [x.default_factory if _is_builtin(x.default_factory) else None, dict(dict.items(x))],
    ),
    "slice": (slice, lambda x: [x.start, x.stop, x.step]),
    "range": (range, lambda x: [x.start, x.stop, x.step]),
    "complex": (complex, lambda x: [x.real, x.imag]),
    "Fraction": (fractions.Fraction, lambda x: [x.numerator, x.denominator]),
    "Decimal": (decimal.Decimal, lambda x: [decimal.Decimal.__str__(x)]),
    "timedelta": (datetime.timedelta, lambda x: [x.days, x.seconds, x.microseconds]),
    "timezone": (datetime.timezone, lambda x: [x.utcoffset(None), x.tzname(None)]),
    "date": (datetime.date, lambda x: [x.year, x.month, x.day]),
    "time": (datetime.time, lambda x: [x.hour, x.minute, x.second, x.microsecond, x.tzinfo]),
    "datetime": (
        datetime.datetime,
        lambda x: [x.year, x.month, x.day, x.hour, x.minute, x.second, x.microsecond, x.tzinfo],
    ),
}
TAG = {kind: tag for tag, (kind, _) in BUILT.items()}
# the same for values of modules that few programs load: "module.type" -> what its constructor takes
LIBRARY = {
    "uuid.UUID": lambda x: [x.hex],
    "zoneinfo.ZoneInfo": lambda x: [x.key],
    "array.array": lambda x: [x.typecode, x.tolist()],
    **{f"pathlib.{kind}": lambda x: [str(x)] for kind in ("PosixPath", "PurePosixPath", "PureWindowsPath")},
    **{f"ipaddress.IPv{n}{kind}": lambda x: [str(x)] for n in (4, 6) for kind in ("Address", "Network", "Interface")},
}
# a subclass crosses as the first of these that it is: a Counter as a dict, an IntEnum as an int
NO_BASE = (datetime.date, slice, range, collections.Counter, collections.OrderedDict, datetime.timezone)
BASES = (int, float, str, bytes, list, dict, *(kind for kind, _ in BUILT.values() if kind not in NO_BASE))
IMMUTABLE = (int, float, complex, str, bytes, tuple, frozenset)
NUMERIC = re.compile(r"bool|(u?int|float|complex)\d+")  # the dtypes of arrays that cross
# operators between two objects of the candidate
BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and_", "or_", "xor", "lshift", "rshift")
MUTABLE = (list, dict, set, bytearray, collections.deque)
VIEWS = {"keys": type({}.keys()), "items": type({}.items())}


class Closed(Exception):
    """The other end is gone, or sends what is no message."""


def send(fd: int, message: dict) -> None:
    data = json.dumps(message).encode()
    if len(data) > MAX_MESSAGE:
        raise ValueError(f"a message of {len(data)} bytes is over the limit of {MAX_MESSAGE}")
    view = memoryview(struct.pack("<I", len(data)) + data)
    while view:
        view = view[os.write(fd, view) :]


def receive(fd: int) -> dict:
    (length,) = struct.unpack("<I", _read(fd, 4))
    if length > MAX_MESSAGE:
        raise Closed(f"a message of {length} bytes")
    try:
        message = json.loads(_read(fd, length))
    except (ValueError, RecursionError) as error:
        raise Closed("no message") from error
    if type(message) is not dict:
        raise Closed("no message")
    return message


def _read(fd: int, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        try:
            piece = os.read(fd, min(count - len(data), 1 << 20))
        except OSError:
            piece = b""
        if not piece:
            raise Closed("gone")
        data += piece
    return bytes(data)


class Packer:
    """Values of one message as tagged JSON.

    handle: makes a tag of what is no plain data. node_of: the prelude's class that a value is an instance of, by name, or
    None. known: by id, mutable values that the other end has already, under their number in its own packing. nodes: by id,
    the same for instances of the prelude's classes. Raises ValueError for what is nested too deeply.
    """

    def __init__(self, handle: Callable, node_of: Callable, known: dict | None = None, nodes: dict | None = None):
        self.handle, self.node_of = handle, node_of
        self.known, self.known_nodes = known or {}, nodes or {}
        self.numbers: dict[int, int] = {}  # of the mutable values packed here, by id
        self.kept: list = []  # those values, in the order of their numbers
        self.table: list = []  # one entry a node: [class, its number at the other end or None, attributes]
        self.places: dict[int, int] = {}  # of the nodes in the table, by id
        self.kept_nodes: list = []  # in the table's order: kept alive, so that no other object takes an id

    def pack(self, value: object) -> object:
        return self._pack(value, 0)

    def finish(self) -> list:
        """The table of nodes, with their attributes: after all values of the message are packed."""
        place = 0
        while place < len(self.table):  # it grows meanwhile
            attributes = vars(self.kept_nodes[place]).items()
            self.table[place][2] = [[name, self._pack(v, 0)] for name, v in attributes if type(name) is str]
            place += 1
        return self.table

    def _pack(self, value: object, depth: int) -> object:
        kind = type(value)
        if value is None or kind is bool or kind is str:
            return value
        if kind is int:
            return value if -(1 << 63) < value < 1 << 63 else {"int": hex(value)}
        if kind is float:
            return {"float": value.hex()}
        if depth > MAX_DEPTH:
            raise ValueError(f"nested more than {MAX_DEPTH} deep")
        if kind is bytes:
            return {"bytes": value.hex()}
        mutable = kind in MUTABLE or is_array(value)
        if mutable and id(value) in self.known:
            return {"same": self.known[id(value)]}
        if mutable and id(value) in self.numbers:
            return {"again": self.numbers[id(value)]}
        packed = self._content(value, kind, depth)
        if mutable:
            self.numbers[id(value)] = len(self.kept)
            self.kept.append(value)
        return packed

    def _content(self, value: object, kind: type, depth: int) -> object:
        if kind is list:
            return [self._pack(v, depth + 1) for v in value]
        if kind is dict:
            return {"dict": [[self._pack(k, depth + 1), self._pack(v, depth + 1)] for k, v in value.items()]}
        if kind in TAG:
            return {TAG[kind]: [self._inner(v, depth + 1) for v in BUILT[TAG[kind]][1](value)]}
        if _is_builtin(value):
            return {"type": value.__name__}
        if is_array(value):
            return {"ndarray": [self._inner(value.ravel().tolist(), depth + 1), str(value.dtype), list(value.shape)]}
        numpy = sys.modules.get("numpy")
        if numpy is not None and isinstance(value, numpy.generic):
            return self._pack(value.item(), depth)
        home = f"{kind.__module__}.{kind.__qualname__}" if type(kind.__module__) is str else ""
        if home in LIBRARY and library(home) is kind:
            return {"library": [home, [self._inner(v, depth + 1) for v in LIBRARY[home](value)]]}
        for tag, view in VIEWS.items():
            if kind is view:
                return {tag: [self._inner(v, depth + 1) for v in value]}
        if is_namedtuple(kind) and not kind.__module__.startswith("solution"):
            return {"namedtuple": [kind.__name__, list(kind._fields), [self._inner(v, depth + 1) for v in value]]}
        name = self.node_of(value)
        return self.handle(value, self) if name is None else {"node": self._place(value, name)}

    def _inner(self, value: object, depth: int) -> object:
        """A part that the value's constructor takes, which has no identity of its own."""
        return [self._pack(v, depth + 1) for v in value] if type(value) is list else self._pack(value, depth)

    def _place(self, node: object, name: str) -> int:
        place = self.places.get(id(node))
        if place is None:
            place = self.places[id(node)] = len(self.table)
            self.table.append([name, self.known_nodes.get(id(node)), []])
            self.kept_nodes.append(node)
        return place


class Unpacker:
    """The other way. class_of: the receiver's own class of a name, which raises KeyError for one that it hasn't.

    kept, nodes: what this end packed before, to which "same" and the nodes of the table refer. `unhandle(tag, content)` for
    tags that are none of ours. Raises ValueError, TypeError, KeyError, IndexError, AttributeError.
    """

    def __init__(self, unhandle: Callable, class_of: Callable, table: list, kept: list = (), nodes: list = ()):
        self.unhandle, self.kept, self.table = unhandle, kept, table
        self.built: list = []
        self.nodes = [object.__new__(class_of(name)) if was is None else nodes[was] for name, was, _ in table]

    def finish(self) -> None:
        """Give the nodes their attributes: after all values of the message are unpacked, in the order they were packed."""
        for node, (_, _, attributes) in zip(self.nodes, self.table, strict=True):
            content = {str(name): self.unpack(packed) for name, packed in attributes}
            vars(node).clear()
            vars(node).update(content)

    def unpack(self, value: object) -> object:
        if type(value) is list:
            return self._number([self.unpack(v) for v in value])
        if type(value) is not dict:
            return value
        ((tag, content),) = value.items()
        if tag == "float":
            return float.fromhex(content)
        if tag == "int":
            return int(content, 16)
        if tag == "bytes":
            return bytes.fromhex(content)
        if tag == "dict":
            return self._number({self.unpack(k): self.unpack(v) for k, v in content})
        if tag == "node":
            return self.nodes[content]
        if tag == "same":
            return self.kept[content]
        if tag == "again":
            return self.built[content]
        if tag == "type" and isinstance(kind := vars(builtins).get(content), type):
            return kind
        if tag == "ndarray":
            numbers, dtype, shape = content
            if not NUMERIC.fullmatch(dtype):
                raise ValueError(f"dtype {dtype!r}")
            import numpy

            return self._number(numpy.array(self._inner(numbers), dtype=numpy.dtype(dtype)).reshape(shape))
        if tag == "library":
            home, arguments = content
            if home not in LIBRARY:
                raise ValueError(f"{home!r} is no type that crosses")
            return library(home, load=True)(*map(self._inner, arguments))
        if tag == "namedtuple":
            name, fields, values = content
            return namedtuple(str(name), tuple(fields))(*map(self._inner, values))
        if tag in VIEWS:
            parts = [self._inner(v) for v in content]
            return dict.fromkeys(parts).keys() if tag == "keys" else dict(parts).items()
        if tag in BUILT:
            built = BUILT[tag][0](*map(self._inner, content))
            return self._number(built) if BUILT[tag][0] in MUTABLE else built
        return self.unhandle(tag, content, self)

    def _inner(self, value: object) -> object:
        return [self.unpack(v) for v in value] if type(value) is list else self.unpack(value)

    def _number(self, value: object) -> object:
        self.built.append(value)
        return value


def is_array(value: object) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(value) is numpy.ndarray and NUMERIC.fullmatch(str(value.dtype)) is not None


def is_namedtuple(kind: type) -> bool:
    fields = getattr(kind, "_fields", None)
    return issubclass(kind, tuple) and type(fields) is tuple and all(type(f) is str for f in fields)


@functools.cache
def namedtuple(name: str, fields: tuple[str, ...]) -> type:
    return collections.namedtuple(name, fields)


def library(home: str, load: bool = False) -> type | None:
    """A type of LIBRARY, where its module is loaded."""
    module, _, name = home.partition(".")
    found = importlib.import_module(module) if load else sys.modules.get(module)
    return getattr(found, name, None)


def _is_builtin(value: object) -> bool:
    return (
        isinstance(value, type) and vars(builtins).get(value.__name__) is value and not issubclass(value, BaseException)
    )


def contents(value: object) -> object:
    """The plain data in an instance of a subclass, read by the base type's own methods. Raises TypeError for others."""
    for base in BASES:
        if isinstance(value, base):
            if base is dict:
                return dict(dict.items(value))
            if base is list:
                return list(list.__iter__(value))
            if base is int:
                return int.__index__(value)
            if base is float:
                return float.fromhex(float.hex(value))
            if base in (str, bytes):
                return base.__getitem__(value, slice(None))
            return base(*BUILT[TAG[base]][1](value))
    raise TypeError(f"{type(value).__name__} is no plain data")


def is_mutable(value: object) -> bool:
    return isinstance(value, MUTABLE) or is_array(value) or (type(value) is tuple and any(map(is_mutable, value)))


def put_back(old: object, new: object) -> None:
    """Make a mutable argument look as the callee left it, keeping its identity, and that of what it still holds."""
    if type(old) is not type(new) or old is new:
        return
    if isinstance(old, list) and len(old) == len(new):
        for i, (before, after) in enumerate(zip(old, new, strict=True)):
            if is_mutable(before) and type(before) is type(after):
                put_back(before, after)
            else:
                old[i] = after
    elif isinstance(old, (list, bytearray)):
        old[:] = new
    elif is_array(old):
        if old.shape == new.shape:
            old[...] = new
    elif isinstance(old, dict):
        kept = {k: old[k] for k in old if k in new and is_mutable(old[k]) and type(old[k]) is type(new[k])}
        for key, before in kept.items():
            put_back(before, new[key])
        old.clear()
        old.update(new | kept)
    elif isinstance(old, set):
        old.clear()
        old.update(new)
    elif isinstance(old, collections.deque):
        old.clear()
        old.extend(new)
    elif isinstance(old, tuple):
        for before, after in zip(old, new, strict=False):
            put_back(before, after)
