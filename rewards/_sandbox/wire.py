"""What crosses between a candidate and its tests: plain data, and handles on everything else.

Tagged JSON behind a length. Never pickle: whoever unpickles runs what the sender wrote. Types are exact: a tuple stays a
tuple, an integer key stays an integer. What is no plain data stays where it is, and crosses as a handle.
"""

import builtins
import collections
import datetime
import decimal
import fractions
import json
import os
import re
import struct
import sys
from collections.abc import Callable

MAX_MESSAGE = 8 << 20  # bytes
MAX_DEPTH = 60

# tag -> (type, what its constructor takes, as plain data)
BUILT = {
    "tuple": (tuple, lambda x: [list(tuple.__iter__(x))]),
    "set": (set, lambda x: [list(set.__iter__(x))]),
    "frozenset": (frozenset, lambda x: [list(frozenset.__iter__(x))]),
    "deque": (collections.deque, lambda x: [list(collections.deque.__iter__(x))]),
    "bytearray": (bytearray, lambda x: [bytes(x)]),
    "Counter": (collections.Counter, lambda x: [dict(dict.items(x))]),
    "OrderedDict": (collections.OrderedDict, lambda x: [[list(pair) for pair in x.items()]]),
    "slice": (slice, lambda x: [x.start, x.stop, x.step]),
    "range": (range, lambda x: [x.start, x.stop, x.step]),
    "complex": (complex, lambda x: [x.real, x.imag]),
    "Fraction": (fractions.Fraction, lambda x: [x.numerator, x.denominator]),
    "Decimal": (decimal.Decimal, lambda x: [decimal.Decimal.__str__(x)]),
    "timedelta": (datetime.timedelta, lambda x: [x.days, x.seconds, x.microseconds]),
    "date": (datetime.date, lambda x: [x.year, x.month, x.day]),
    "time": (datetime.time, lambda x: [x.hour, x.minute, x.second, x.microsecond]),
    "datetime": (
        datetime.datetime,
        lambda x: [x.year, x.month, x.day, x.hour, x.minute, x.second, x.microsecond],
    ),
}
TAG = {kind: tag for tag, (kind, _) in BUILT.items()}
# a subclass crosses as the first of these that it is: a Counter as a dict, an IntEnum as an int
NO_BASE = (datetime.date, slice, range, collections.Counter, collections.OrderedDict)
BASES = (int, float, str, bytes, list, dict, *(kind for kind, _ in BUILT.values() if kind not in NO_BASE))
IMMUTABLE = (int, float, complex, str, bytes, tuple, frozenset)
NUMERIC = re.compile(r"bool|(u?int|float|complex)\d+")  # the dtypes of arrays that cross
# operators between two objects of the candidate
BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and_", "or_", "xor", "lshift", "rshift")
MUTABLE = (list, dict, set, bytearray, collections.deque)


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


def encode(value: object, handle: Callable, depth: int = 0) -> object:
    """Plain data as tagged JSON; `handle(value)` for everything else. Raises ValueError when nested too deeply."""
    if depth > MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} deep")
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int:
        return value if -(1 << 63) < value < 1 << 63 else {"int": hex(value)}
    if kind is float:
        return {"float": value.hex()}
    if kind is bytes:
        return {"bytes": value.hex()}
    if kind is list:
        return [encode(v, handle, depth + 1) for v in value]
    if kind is dict:
        return {"dict": [[encode(k, handle, depth + 1), encode(v, handle, depth + 1)] for k, v in value.items()]}
    if kind in TAG:
        if getattr(value, "tzinfo", None) is not None:
            return handle(value)
        return {TAG[kind]: [encode(v, handle, depth + 1) for v in BUILT[TAG[kind]][1](value)]}
    if isinstance(value, type) and vars(builtins).get(value.__name__) is value and not issubclass(value, BaseException):
        return {"type": value.__name__}
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        return encode(value.item(), handle, depth)
    if numpy is not None and kind is numpy.ndarray and NUMERIC.fullmatch(str(value.dtype)):
        return {"ndarray": [encode(value.tolist(), handle, depth + 1), str(value.dtype)]}
    return handle(value)


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


def decode(value: object, unhandle: Callable) -> object:
    """The other way; `unhandle(tag, content)` for tags that are none of ours. Raises ValueError, TypeError, KeyError."""
    if type(value) is list:
        return [decode(v, unhandle) for v in value]
    if type(value) is not dict:
        return value
    ((tag, content),) = value.items()
    if tag == "int":
        return int(content, 16)
    if tag == "float":
        return float.fromhex(content)
    if tag == "bytes":
        return bytes.fromhex(content)
    if tag == "dict":
        return {decode(k, unhandle): decode(v, unhandle) for k, v in content}
    if tag == "type" and isinstance(kind := vars(builtins).get(content), type):
        return kind
    if tag == "ndarray":
        if not NUMERIC.fullmatch(content[1]):
            raise ValueError(f"dtype {content[1]!r}")
        import numpy

        return numpy.array(decode(content[0], unhandle), dtype=numpy.dtype(content[1]))
    if tag in BUILT:
        return BUILT[tag][0](*(decode(v, unhandle) for v in content))
    return unhandle(tag, content)


def is_mutable(value: object) -> bool:
    return isinstance(value, MUTABLE) or (type(value) is tuple and any(map(is_mutable, value)))


def put_back(old: object, new: object) -> None:
    """Make a mutable argument look as the callee left it, keeping its identity, and that of what it still holds."""
    if type(old) is not type(new):
        return
    if isinstance(old, list) and len(old) == len(new):
        for i, (before, after) in enumerate(zip(old, new, strict=True)):
            if is_mutable(before) and type(before) is type(after):
                put_back(before, after)
            else:
                old[i] = after
    elif isinstance(old, (list, bytearray)):
        old[:] = new
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
