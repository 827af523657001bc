"""Do two syntax trees differ for sure? Floating point with bounds on its errors; only values further apart refute.

A value is (number, error). Complex numbers pass + - * / and square roots; everything else is real or Undefined.
"""

import cmath
import contextlib
import math

from rewards._latex import Unsupported
from rewards._quotients import Undefined

POINTS = ((3, 5, 2, 7, 11), (8, 3, 13, 5, 2), (2, 9, 4, 17, 6), (0.37, 0.71, 0.23, 0.59, 0.83))  # for the variables
ULP = 2.0**-50  # libm is within a few units in the last place, each 2^-53
MONOTONE = {
    "exp": math.exp, "ln": math.log, "arcsin": math.asin, "arccos": math.acos, "arctan": math.atan, "sinh": math.sinh,
    "tanh": math.tanh, "sqrt": math.sqrt,
}  # fmt: skip
RECIPROCAL = {"cot": "tan", "sec": "cos", "csc": "sin"}


def differ(a: tuple, b: tuple) -> bool:
    """Whether two trees have provably different values somewhere."""
    names = sorted(letters(a) | letters(b))
    if len(names) > len(POINTS[0]):
        return False
    compared = False
    for point in POINTS if names else POINTS[:1]:
        if compared and isinstance(point[0], float):
            break  # a variable may be meant as an integer: fractions only where no integer is in the domain
        at = values(names, point)
        try:
            (u, du), (v, dv) = ball(a, at), ball(b, at)
        except (Undefined, Unsupported, ArithmeticError, ValueError):
            continue
        compared = True
        if abs(u - v) > 2 * (du + dv):
            return True
    return False


def defined(tree: tuple) -> bool:
    """Whether a tree provably has a value somewhere."""
    names = sorted(letters(tree))
    for point in POINTS if len(names) <= len(POINTS[0]) else ():
        with contextlib.suppress(Undefined, Unsupported, ArithmeticError, ValueError):
            ball(tree, values(names, point))
            return True
    return False


def near(tree: tuple, value: float, within: float) -> bool:
    """Whether a tree without variables is as near to a value as that."""
    with contextlib.suppress(Undefined, Unsupported, ArithmeticError, ValueError):
        return not letters(tree) and abs(ball(tree, values([], ()))[0] - value) <= within
    return False


def values(names: list[str], point: tuple) -> dict:
    at = {name: (float(value), abs(value) * ULP) for name, value in zip(names, point, strict=False)}
    return at | {r"\pi": (math.pi, math.pi * ULP), "e": (math.e, math.e * ULP), "i": (1j, 0.0)}


def letters(tree: tuple) -> set[str]:
    if tree[0] == "v":
        return {tree[1]} - {r"\pi", "e", "i"}
    parts = tree[1] if tree[0] in "+*" else tree[1:]
    return set().union(*(letters(part) for part in parts if isinstance(part, tuple)))


def ball(tree: tuple, at: dict) -> tuple[float, float]:
    """The value of a tree at a point and a bound on its error. Raises Undefined outside the reals."""
    kind = tree[0]
    if kind == "n":
        return rounded(float(tree[1]))
    if kind == "v":
        return at[tree[1]]
    if kind == "neg":
        value, error = ball(tree[1], at)
        return -value, error
    if kind == "+":
        values = [ball(term, at) for term in tree[1]]
        return sum(v for v, _ in values), sum(e + abs(v) * ULP for v, e in values) * len(values)
    if kind == "*":
        total = (1.0, 0.0)
        for factor in tree[1]:
            total = product(total, ball(factor, at))
        return total
    if kind == "/":
        return product(ball(tree[1], at), inverse(ball(tree[2], at)))
    if kind == "^":
        return power(ball(tree[1], at), ball(tree[2], at), tree[2])
    if kind == "log":
        return product(function("ln", ball(tree[2], at)), inverse(function("ln", ball(tree[1], at))))
    if kind == "fn":
        return function(tree[1], ball(tree[2], at))
    if kind in ("!", "binom"):
        values = [ball(part, at) for part in tree[1:]]
        whole = [round(v) for v, e in values if not isinstance(v, complex) and 0 <= v <= 170 and abs(v - round(v)) <= e]
        if len(whole) == len(values):
            return rounded(float(math.factorial(whole[0]) if kind == "!" else math.comb(*whole)))
    raise Undefined(kind)


def rounded(value: complex, error: float = 0.0) -> tuple[complex, float]:
    if not cmath.isfinite(value) or not math.isfinite(error):
        raise Undefined("too large")
    return value, error + abs(value) * ULP + 1e-300


def product(a, b):
    return rounded(a[0] * b[0], abs(a[0]) * b[1] + abs(b[0]) * a[1] + a[1] * b[1])


def inverse(a):
    if abs(a[0]) <= 2 * a[1]:
        raise Undefined("maybe a division by zero")
    return rounded(1 / a[0], a[1] / (abs(a[0]) * (abs(a[0]) - a[1])))


def power(a, b, exponent: tuple):
    if isinstance(b[0], complex):
        raise Undefined("a complex power")
    whole = round(b[0])
    if abs(b[0] - whole) <= b[1] and abs(whole) <= 64:
        result = (1.0, 0.0)
        for _ in range(abs(whole)):
            result = product(result, a)
        return inverse(result) if whole < 0 else result
    if exponent[0] == "/" and exponent[2] == ("n", 2) and exponent[1] == ("n", 1):
        return function("sqrt", a)
    if isinstance(a[0], complex) or a[0] <= 2 * a[1]:
        raise Undefined("a root of a negative number")
    return function("exp", product(b, function("ln", a)))


def function(name: str, a):
    value, error = a
    if isinstance(value, complex):
        if name != "sqrt" or (value.real <= error and abs(value.imag) <= error):
            raise Undefined("not real, or on the cut of the square root")
        return rounded(cmath.sqrt(value), error / math.sqrt(abs(value) - error))
    if name in ("sin", "cos"):
        return rounded(getattr(math, name)(value), error)
    if name == "tan":
        return product(function("sin", a), inverse(function("cos", a)))
    if name in RECIPROCAL:
        return inverse(function(RECIPROCAL[name], a))
    if name == "abs":
        return abs(value), error
    if name == "cosh":
        up, down = function("exp", a), function("exp", (-value, error))
        return rounded((up[0] + down[0]) / 2, up[1] + down[1])
    if name not in MONOTONE:
        raise Undefined(name)
    low, high = (
        MONOTONE[name](value - error),
        MONOTONE[name](value + error),
    )  # math raises ValueError outside the domain
    return rounded((low + high) / 2, abs(high - low) / 2 + max(abs(low), abs(high)) * ULP)
