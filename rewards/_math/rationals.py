"""The exact value of a syntax tree that takes no more than arithmetic: sums, products, whole powers, factorials."""

import math
from fractions import Fraction

MAX_BITS = 40_000  # of an exact number: 2006! has 19,122
MAX_FACTORIAL = 3500


class Undefined(Exception):
    """Without a value there, such as 1/0, or none that can be worked out."""


def exact(tree: tuple) -> Fraction | None:
    """The value of an arithmetic tree, None of another. Raises Undefined where there is none or it is too large."""
    kind = tree[0]
    if kind == "n":
        return tree[1]
    if kind == "v" or kind == "log" or (kind == "fn" and tree[1] not in ("abs", "floor", "ceil")):
        return None
    parts = [exact(part) for part in children(tree)]
    if None in parts:
        return None
    if kind == "neg":
        return -parts[0]
    if kind == "+":
        return bounded(sum(parts))
    if kind == "*":
        total = Fraction(1)
        for part in parts:
            total = bounded(total * part)
        return total
    if kind == "fn":
        return Fraction({"floor": math.floor, "ceil": math.ceil, "abs": abs}[tree[1]](parts[0]))
    if kind == "/":
        if not parts[1]:
            raise Undefined("a division by zero")
        return bounded(parts[0] / parts[1])
    if kind == "^":
        return exact_power(*parts)
    if any(p.denominator != 1 or not 0 <= p <= MAX_FACTORIAL for p in parts):
        return None
    return bounded(Fraction(math.factorial(int(parts[0])) if kind == "!" else math.comb(*map(int, parts))))


def exact_power(base: Fraction, exponent: Fraction) -> Fraction | None:
    if exponent.denominator != 1:
        return None
    if not base and exponent <= 0:
        raise Undefined("zero to no positive power")
    if abs(base) == 1 or not base:
        return base if exponent % 2 else abs(base)
    if abs(exponent) * max(base.numerator.bit_length(), base.denominator.bit_length()) > MAX_BITS:
        raise Undefined("too large")
    return base ** int(exponent)


def bounded(number: Fraction) -> Fraction:
    if number.numerator.bit_length() + number.denominator.bit_length() > MAX_BITS:
        raise Undefined("too large")
    return number


def exact_or_none(tree: tuple) -> Fraction | None:
    try:
        return exact(tree)
    except Undefined:
        return None


def children(tree: tuple):
    parts = tree[1] if tree[0] in ("+", "*") else tree[1:]
    return [part for part in parts if isinstance(part, tuple)]
