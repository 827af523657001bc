r"""The value of a syntax tree at a point, as an interval of 70 digits that encloses it whatever was rounded on the way.

The intervals are mpmath's. Two that don't overlap are proof that the values differ. Complex numbers pass + - * /, powers
and exp; other functions want reals. What may be a division by zero, or is too large, has no value.
"""

import math
from fractions import Fraction

from mpmath.ctx_iv import MPIntervalContext
from mpmath.libmp import to_rational

from rewards._math.rationals import MAX_FACTORIAL, Undefined, exact_or_none

MAX_EXPONENT = 4_000_000  # bits before the point: beyond, a number is too large for everything
IV = MPIntervalContext()  # a context of its own: mpmath's shared one is anybody's to change
IV.prec = 240
ZERO, ONE, IMAGINARY = IV.mpf(0), IV.mpf(1), IV.mpc(0, 1)
TINY, WIDTH = IV.mpf(10) ** -50, IV.mpf(10) ** -40  # equal values have 40 digits in common
CONSTANTS = (r"\pi", "e", "i")
RECIPROCAL = {"cot": "tan", "sec": "cos", "csc": "sin", "coth": "tanh", "sech": "cosh", "csch": "sinh"}


def same_value(u, v) -> bool | None:
    """False where two intervals don't overlap, True where they are narrow and do, else None."""
    difference = u - v
    if not holds_zero(difference):
        return False
    scale = size(u), size(v)
    return True if size(difference) <= max(*scale, key=lambda s: s.b) * WIDTH or nothing(difference) else None


def is_complex(x) -> bool:
    return isinstance(x, IV.mpc)


def interval(number: Fraction):
    if max(number.numerator.bit_length(), number.denominator.bit_length()) > MAX_EXPONENT:
        raise Undefined("too large")
    return IV.mpf(number.numerator) / IV.mpf(number.denominator)


def size(x):
    """The absolute value, as an interval."""
    return abs(x)


def holds_zero(x) -> bool:
    return (0 in x.real and 0 in x.imag) if is_complex(x) else 0 in x


def nothing(x) -> bool:
    """Zero, as far as can be told."""
    return holds_zero(x) and bool(size(x) < TINY)


def value(tree: tuple, at: dict):
    """The interval of a tree at a point. Raises Undefined where it has none, or none that is finite."""
    result = _value(tree, at)
    parts = (result.real, result.imag) if is_complex(result) else (result,)
    for part in parts:
        if not (-IV.inf < part.a and part.b < IV.inf):  # false of nan, too
            raise Undefined("not finite")
    if len(parts) == 2 and parts[1] == 0:
        return parts[0]
    return result


def _value(tree: tuple, at: dict):
    kind = tree[0]
    if kind == "n":
        return interval(tree[1])
    if kind == "v":
        return {r"\pi": IV.pi + 0, "e": IV.e + 0, "i": IMAGINARY}[tree[1]] if tree[1] in CONSTANTS else at[tree[1]]
    if kind == "neg":
        return -value(tree[1], at)
    if kind == "+":
        return sum((value(term, at) for term in tree[1]), ZERO)
    if kind == "*":
        return math.prod((value(factor, at) for factor in tree[1]), start=ONE)
    if kind == "/":
        return value(tree[1], at) * inverse(value(tree[2], at))
    if kind == "^":
        base, exponent = value(tree[1], at), value(tree[2], at)
        return power(base, exponent, exact_or_none(tree[2]) or integer(exponent))
    if kind == "log":
        return real_function("ln", value(tree[2], at)) * inverse(real_function("ln", value(tree[1], at)))
    if kind == "fn":
        return real_function(tree[1], value(tree[2], at))
    numbers = [integer_in(value(part, at)) for part in tree[1:]]
    if kind == "!":
        return IV.mpf(math.factorial(numbers[0]))
    return IV.mpf(math.comb(*numbers))


def integer(x) -> Fraction | None:
    """The exponent n of (-1)^n, at a point where n is an integer."""
    low, high = (None, None) if is_complex(x) else ends_of(x)
    return low if low == high and low is not None and low.denominator == 1 else None


def integer_in(x) -> int:
    """The whole number in an interval, of which there is a factorial."""
    if not is_complex(x) and size(x) <= MAX_FACTORIAL:
        number = round(ends_of(x)[0])
        if number >= 0 and nothing(x - number):
            return number
    raise Undefined("a factorial or binomial of something other than an integer")


def ends_of(x) -> tuple[Fraction, Fraction]:
    return tuple(Fraction(*to_rational(end)) for end in x._mpi_)


def inverse(x):
    if holds_zero(x):
        raise Undefined("maybe a division by zero")
    return 1 / x


def power(base, exponent, known: Fraction | None):
    """base^exponent; `known` is the exponent where it is rational. Odd roots of negative numbers are real."""
    if nothing(base):
        if known is None or known <= 0:
            raise Undefined("zero to no positive power")
        return ZERO
    if holds_zero(base):
        raise Undefined("maybe zero")
    magnitude = IV.log(size(base))
    if not size(magnitude * exponent) < MAX_EXPONENT:
        raise Undefined("too large")
    if known is not None and known.denominator == 1 and abs(known) < 1 << 20:
        return base ** int(known) if known >= 0 else inverse(base ** -int(known))
    real = not is_complex(base)
    if real and not is_complex(exponent) and base > 0:
        return IV.exp(magnitude * exponent)
    if known is not None and real and known.denominator % 2:  # and base < 0
        root = IV.exp(magnitude * exponent)
        return -root if known.numerator % 2 else root
    if known is not None and known.denominator == 2:
        return square_root(base) ** known.numerator if known > 0 else inverse(square_root(base) ** -known.numerator)
    if real and base > 0:
        return IV.exp(IV.mpc(exponent.real, exponent.imag) * magnitude)
    raise Undefined("a power of a negative or complex number")


def square_root(x):
    """The principal one."""
    if not is_complex(x):
        return IV.mpc(0, IV.sqrt(-x)) if x < 0 else IV.sqrt(x)
    if 0 in x.imag and not x.real > 0:
        raise Undefined("on the cut of the square root")
    real = IV.sqrt((abs(x) + x.real) / 2)
    return IV.mpc(real, x.imag / (2 * real))


def real_function(name: str, x):
    if name == "exp":
        return power(IV.e + 0, x, None)
    if name == "abs":
        return size(x)
    if is_complex(x):
        raise Undefined("not real")
    if name in RECIPROCAL:
        return inverse(real_function(RECIPROCAL[name], x))
    if not size(x) < MAX_EXPONENT:
        raise Undefined("too large")
    if name in ("sin", "cos"):
        return getattr(IV, name)(x)
    if name == "cis":
        return IV.mpc(IV.cos(x), IV.sin(x))
    if name == "tan":
        return IV.sin(x) * inverse(IV.cos(x))
    if name == "ln":
        if not x > 0:
            raise Undefined("a logarithm outside the reals")
        return IV.log(x)
    if name == "arctan":
        return IV.atan2(x, ONE)
    if name in ("arcsin", "arccos"):
        if nothing(abs(x) - 1):
            side = IV.pi / 2 * (1 if x > 0 else -1)
        elif abs(x) < 1:
            side = IV.atan2(x, IV.sqrt(1 - x * x))
        else:
            raise Undefined("outside the domain")
        return side if name == "arcsin" else IV.pi / 2 - side
    if name in ("floor", "ceil"):
        ends = {getattr(math, name)(end) for end in ends_of(x)}
        if len(ends) > 1:
            raise Undefined("maybe an integer")
        return IV.mpf(ends.pop())
    up, down = IV.exp(x), IV.exp(-x)
    if name == "sinh":
        return (up - down) / 2
    if name == "cosh":
        return (up + down) / 2
    if name == "tanh":
        return (up - down) / (up + down)
    raise Undefined(name)
