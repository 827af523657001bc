"""Messages between a candidate and its tests: JSON behind a length, with values as a flat list of nodes.

Never pickle: whoever unpickles runs what the sender wrote. A value is a scalar, or the place of a node in the message; so
nothing is nested, a linked list of any length and a graph with cycles cross, and what is shared stays shared. A node is
[tag, values in it, ...]. Types are exact: a tuple stays a tuple, an integer key stays an integer.

What both ends hold a copy of has a number: sent again, it is the same object, brought up to date. What isn't plain data
stays where it is, and crosses as a handle (session.py).
"""

import binascii
import collections
import importlib
import json
import math
import operator
import os
import re
import struct
import sys
from collections.abc import Callable
from typing import Any

MAX_MESSAGE = 32 << 20  # bytes

# modules whose own functions and classes a test gets from its own copy, never from the candidate's
HELPERS = {
    "math", "cmath", "collections", "itertools", "functools", "re", "string", "random", "heapq", "bisect", "operator",
    "datetime", "decimal", "fractions", "statistics", "copy", "json", "typing",
}  # fmt: skip
SCALARS = {type(None), bool, str, float}
LARGE = 1 << 63  # from here on in hexadecimal: decimal digits take quadratic time
# subclasses cross as the first of these that they are, with their contents
IMMUTABLE = (int, float, complex, str, bytes, tuple, frozenset)
MUTABLE = (list, dict, set, bytearray, collections.deque)
DICTS = (dict, collections.OrderedDict, collections.Counter, collections.defaultdict)
COPIED = {kind.__name__: kind for kind in (*MUTABLE, *DICTS)}
VIEWS = {type({}.keys()): "dict_keys", type({}.values()): "dict_values", type({}.items()): "dict_items"}
NUMERIC = re.compile(r"bool|(u?int|float|complex)\d+")  # the dtypes of arrays that cross

_TIME = operator.attrgetter("hour", "minute", "second", "microsecond", "tzinfo", "fold")
_DATE = operator.attrgetter("year", "month", "day")
# values of other classes that cross as what their constructor takes
BUILT: dict[tuple[str, str], Callable[[Any], list]] = {
    ("builtins", "complex"): lambda x: [x.real, x.imag],
    ("builtins", "slice"): lambda x: [x.start, x.stop, x.step],
    ("builtins", "range"): lambda x: [x.start, x.stop, x.step],
    ("fractions", "Fraction"): lambda x: [x.numerator, x.denominator],
    ("decimal", "Decimal"): lambda x: [str(x)],
    ("datetime", "timedelta"): lambda x: [x.days, x.seconds, x.microseconds],
    ("datetime", "timezone"): lambda x: [x.utcoffset(None), x.tzname(None)],
    ("datetime", "date"): lambda x: list(_DATE(x)),
    ("datetime", "time"): lambda x: list(_TIME(x)),
    ("datetime", "datetime"): lambda x: [*_DATE(x), *_TIME(x)],
    ("zoneinfo", "ZoneInfo"): lambda x: [x.key],
    ("uuid", "UUID"): lambda x: [x.hex],
    ("array", "array"): lambda x: [x.typecode, tuple(x)],
    **{("ipaddress", f"IPv{n}{kind}"): lambda x: [str(x)] for n in (4, 6) for kind in ("Address", "Network", "Interface")},
    **{("pathlib", kind): lambda x: [str(x)] for kind in ("PosixPath", "PurePosixPath", "PureWindowsPath")},
}  # fmt: skip
_to_json = json.JSONEncoder(separators=(",", ":")).encode
_built_classes: dict[type, tuple[str, str] | None] = {}


class Closed(BaseException):
    """The other end is gone, or sends something other than a message. No test catches it by `except Exception`."""


def send(fd: int, message: dict) -> None:
    data = _to_json(message).encode()
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


def pack(value: object, node_of: Callable) -> tuple[object, list]:
    """(the value, nodes): `node_of(value, item)` makes the node of what isn't a scalar, `item` the place of what is in it."""
    values: list[object] = []  # keeps them alive, so that no id is taken twice
    places: dict[int, int] = {}

    def item(v: object) -> object:
        kind = type(v)
        if kind in SCALARS or (kind is int and -LARGE <= v < LARGE):
            return v
        place = places.setdefault(id(v), len(values))
        if place == len(values):
            values.append(v)
        return [place]

    root = item(value)
    return root, [node_of(v, item) for v in values]  # which grows meanwhile


def items_of(values: list | tuple, item: Callable) -> list:
    kinds = set(map(type, values))
    if kinds <= SCALARS or (kinds == {int} and min(values) >= -LARGE and max(values) < LARGE):
        return list(values)
    return [item(v) for v in values]


def plain_node(value: object, item: Callable) -> list | None:
    """The node of immutable plain data, None for all else."""
    kind = type(value)
    if kind is tuple or kind is frozenset:
        return [kind.__name__, items_of(list(value), item)]
    if kind is int:
        return ["int", [hex(value)]]
    if value is ...:
        return ["...", []]
    if kind is bytes:
        return ["bytes", [value.hex()]]
    if kind in VIEWS:
        return [VIEWS[kind], items_of(list(value), item)]
    if (name := built_class(kind)) and _constructible(value):
        return ["built", [item(v) for v in BUILT[name](value)], *name]
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic) and type(single := value.item()) is not kind:
        return ["same", [item(single)]]
    return None


def built_class(kind: type) -> tuple[str, str] | None:
    if kind not in _built_classes:
        found = (name for name in BUILT if getattr(sys.modules.get(name[0]), name[1], None) is kind)
        _built_classes[kind] = next(found, None)
    return _built_classes[kind]


def _constructible(value: object) -> bool:
    zone = getattr(value, "tzinfo", None)
    return zone is None or built_class(type(zone)) is not None


def build(node: list, values: list) -> object:
    """Immutable plain data from its node and the values in it. Raises ValueError, TypeError and the like."""
    tag = node[0]
    if tag == "tuple":
        return tuple(values)
    if tag == "frozenset":
        return frozenset(values)
    if tag == "int":
        return int(values[0], 16)
    if tag == "bytes":
        return bytes.fromhex(values[0])
    if tag == "same":
        return values[0]
    if tag == "...":
        return ...
    if tag == "dict_keys":
        return dict.fromkeys(values).keys()
    if tag == "dict_values":
        return dict(enumerate(values)).values()
    if tag == "dict_items":
        return dict(values).items()
    if tag == "built" and (name := (node[2], node[3])) in BUILT:
        kind = getattr(importlib.import_module(name[0]), name[1])
        if name in (("datetime", "time"), ("datetime", "datetime")):
            return kind(*values[:-1], fold=values[-1])
        return kind(*values)
    raise ValueError(f"{tag!r} isn't a kind of data")


# -- what both ends hold a copy of: each brought up to date where the other has changed it


def copied_node(value: object, item: Callable, number: int, unchanged: bool) -> list | None:
    """[tag, contents or None where they are unchanged, number, ...] of mutable data, None for all else."""
    kind = type(value)
    if COPIED.get(kind.__name__) is kind:
        held = None if unchanged else [value.hex()] if kind is bytearray else items_of(state(value), item)
        node = [kind.__name__, held, number]
        if kind is collections.deque:
            node.append(value.maxlen)
        elif kind is collections.defaultdict:
            node.append(item(value.default_factory))
        return node
    if is_array(value):
        data = None if unchanged else [binascii.b2a_base64(value.tobytes(), newline=False).decode()]
        return ["ndarray", data, number, str(value.dtype), list(value.shape)]
    return None


def is_array(value: object) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(value) is numpy.ndarray and NUMERIC.fullmatch(str(value.dtype)) is not None


def new_copy(node: list) -> object:
    """An empty one of this kind; fill() puts in what it holds."""
    if node[0] == "deque":
        return collections.deque(maxlen=node[3])
    if node[0] == "ndarray":
        if not NUMERIC.fullmatch(node[3]) or not 0 <= math.prod(node[4]) <= MAX_MESSAGE:
            raise ValueError(f"an array of {node[3]!r}")
        return importlib.import_module("numpy").empty(node[4], dtype=node[3])
    return COPIED[node[0]]()


def state(value: object) -> list:
    """What is in it, as a flat list, by the methods of its plain base; two are the same if their items are identical."""
    for base in MUTABLE:
        if isinstance(value, base):
            if base is dict:
                ordered = collections.OrderedDict if isinstance(value, collections.OrderedDict) else dict
                return [x for pair in ordered.items(value) for x in pair]
            return [bytes(value)] if base is bytearray else list(base.__iter__(value))
    if is_array(value):
        return [value.tobytes()]
    raise TypeError(f"{type(value).__name__} isn't plain data")


def same_state(before: list, after: list) -> bool:
    if len(before) == len(after) == 1 and type(before[0]) is type(after[0]) is bytes:
        return before == after
    return len(before) == len(after) and all(map(operator.is_, before, after))


def fill(value: object, values: list) -> None:
    """Put in what the other end says it holds; the object stays the same one."""
    if isinstance(value, list):
        list.__setitem__(value, slice(None), values)
    elif isinstance(value, dict):
        ordered = collections.OrderedDict if isinstance(value, collections.OrderedDict) else dict
        ordered.clear(value)
        ordered.update(value, zip(values[::2], values[1::2], strict=True))
    elif isinstance(value, set):
        set.clear(value)
        set.update(value, values)
    elif isinstance(value, collections.deque):
        collections.deque.clear(value)
        collections.deque.extend(value, values)
    elif isinstance(value, bytearray):
        bytearray.__setitem__(value, slice(None), bytes.fromhex(values[0]))
    else:
        numpy = importlib.import_module("numpy")
        data = numpy.frombuffer(binascii.a2b_base64(values[0]), dtype=value.dtype)
        value[...] = data.reshape(value.shape)
