r"""Are two closed forms equal? Rationals exactly, the rest by value: intervals of 70 digits that overlap or don't.

A form without variables has one value, a form with variables is compared at several points. Values are mpmath's
intervals, which enclose what was meant whatever was rounded on the way: two that don't overlap are proof that the forms
differ. Two that overlap, to 40 digits and more at each point, are taken as equal. That is no proof, but it can't be had
without the right answer, which is all that a reward asks. The cost is linear in the length: nothing is expanded.

Points are positive integers and fractions, so that n! and \sqrt{x} have values; negative ones join where no root,
logarithm or real power depends on its sign. Complex numbers pass + - * /, powers and exp; other functions want reals.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import zip_longest

from mpmath.ctx_iv import MPIntervalContext
from mpmath.libmp import to_rational

MAX_BITS = 40_000  # of an exact number: 2006! has 19,122
MAX_EXPONENT = 4_000_000  # bits before the point: beyond, a number is too large for everything
MAX_FACTORIAL = 3500
DIGITS = 40  # that two values must have in common
IV = MPIntervalContext()  # a context of its own: mpmath's shared one is anybody's to change
IV.prec = 240
ZERO, ONE, IMAGINARY = IV.mpf(0), IV.mpf(1), IV.mpc(0, 1)
TINY, WIDTH = IV.mpf(10) ** -50, IV.mpf(10) ** -DIGITS
# for the variables in alphabetical order: integers, fractions, and fractions below zero
POINTS = (
    tuple(Fraction(n) for n in (3, 5, 2, 7, 11, 4, 13, 6)),
    tuple(Fraction(n) for n in (8, 3, 13, 5, 2, 9, 6, 10)),
    tuple(Fraction(n, 97) for n in (41, 67, 23, 131, 89, 151, 13, 59)),
    tuple(Fraction(n, 89) for n in (211, 37, 167, 71, 19, 101, 131, 47)),
)
NEGATIVE = tuple(Fraction(-n, 83) for n in (101, 31, 59, 173, 23, 67, 131, 41))
CONSTANTS = (r"\pi", "e", "i")
RECIPROCAL = {"cot": "tan", "sec": "cos", "csc": "sin", "coth": "tanh", "sech": "cosh", "csch": "sinh"}


class Undefined(Exception):
    """Without a value there, such as 1/0, or none that can be worked out."""


@dataclass(frozen=True)
class Form:
    """A syntax tree of rewards._math.latex.Parser, with what is worked out once."""

    tree: tuple

    @cached_property
    def rational(self) -> Fraction | None:
        """The exact value where it takes no more than arithmetic, else None."""
        try:
            return exact(self.tree)
        except Undefined:
            return None

    @cached_property
    def variables(self) -> frozenset[str]:
        return frozenset(letters(self.tree))

    @cached_property
    def defined(self) -> bool:
        """Whether it has a value somewhere."""
        return self.rational is not None or any(v is not None for v in values(self, points(self)))

    def times(self, other: "Form") -> "Form":
        return Form(("*", [self.tree, other.tree]))

    def over(self, other: "Form") -> "Form":
        return Form(("/", self.tree, other.tree))

    def minus(self, other: "Form") -> "Form":
        return Form(("+", [self.tree, ("neg", other.tree)]))

    def at(self, name: str, value: Fraction | int) -> "Form":
        """With a number in the place of a variable."""
        return Form(replaced(self.tree, name, ("n", Fraction(value))))


def equal(a: Form, b: Form) -> bool | None:
    """Whether two forms are equal; None when that can't be told. Forms without a value equal nothing."""
    if a.rational is not None and b.rational is not None:
        return a.rational == b.rational
    if a.tree == b.tree:
        return a.defined
    uneven = ("abs" in functions(a.tree)) != ("abs" in functions(b.tree))
    compared, at = 0, points(a, b, negative=uneven)
    for u, v in zip(values(a, at), values(b, at), strict=True):
        if u is None or v is None:
            if uneven and u is not v:
                return False  # \ln|x| has values where \ln x has none
            continue
        verdict = same_value(u, v)
        if verdict is False:
            return False
        compared += verdict is True
    if compared:
        return True
    return None if a.defined and b.defined else False


def proportion(a: Form, b: Form) -> int | None:
    """The sign of the constant c with a = c b, 0 where there is none, None where that can't be told."""
    first, compared, at = None, 0, points(a, b)
    for u, v in zip(values(a, at), values(b, at), strict=True):
        if u is None or v is None or nothing(u) or nothing(v):
            continue
        ratio = u / v
        if isinstance(ratio, IV.mpc):
            return 0
        if first is None:
            first = ratio
        elif same_value(first, ratio) is not True:
            return 0
        compared += 1
    return None if compared < 2 else 1 if first > 0 else -1


def sign(a: Form) -> int | None:
    """The sign of a form without variables; None where that can't be told."""
    if a.rational is not None:
        return (a.rational > 0) - (a.rational < 0)
    (value,) = values(a, points(a)) if not a.variables else (None,)
    if value is None or isinstance(value, IV.mpc):
        return None
    return 1 if value > 0 else -1 if value < 0 else 0 if nothing(value) else None


def near(a: Form, value: Fraction, within: Fraction) -> bool:
    """Whether a form without variables is as near to a value as that."""
    if a.rational is not None:
        return abs(a.rational - value) <= within
    (found,) = values(a, points(a)) if not a.variables else (None,)
    return (
        found is not None and not isinstance(found, IV.mpc) and bool(abs(found - interval(value)) <= interval(within))
    )


def same_value(u, v) -> bool | None:
    """False where two intervals don't overlap, True where they are narrow and do, else None."""
    difference = u - v
    if not holds_zero(difference):
        return False
    scale = size(u), size(v)
    return True if size(difference) <= max(*scale, key=lambda s: s.b) * WIDTH or nothing(difference) else None


def points(*forms: Form, negative: bool = False) -> list[dict]:
    names = sorted(set().union(*(form.variables for form in forms)))
    if not names:
        return [{}]
    signed = not negative and any(depends_on_sign(form.tree) for form in forms)
    return [
        {n: value + i for i, (n, value) in enumerate(zip_longest(names, p[: len(names)], fillvalue=Fraction(17)))}
        for p in POINTS + (() if signed else (NEGATIVE,))
    ]


def values(form: Form, at: list[dict]) -> list:
    """The intervals at some points, None where there is no value."""
    found = []
    for point in at:
        try:
            found.append(value(form.tree, {name: interval(number) for name, number in point.items()}))
        except (Undefined, ArithmeticError, ValueError, TypeError):  # mpmath raises these outside a function's domain
            found.append(None)
    return found


# --- trees


def letters(tree: tuple) -> set[str]:
    if tree[0] == "v":
        return {tree[1]} - set(CONSTANTS)
    return set().union(*map(letters, children(tree)))


def functions(tree: tuple) -> set[str]:
    return ({tree[1]} if tree[0] == "fn" else set()).union(*map(functions, children(tree)))


def children(tree: tuple):
    parts = tree[1] if tree[0] in ("+", "*") else tree[1:]
    return [part for part in parts if isinstance(part, tuple)]


def replaced(tree: tuple, name: str, by: tuple) -> tuple:
    if tree == ("v", name):
        return by
    if tree[0] in ("+", "*"):
        return tree[0], [replaced(part, name, by) for part in tree[1]]
    return tuple(replaced(part, name, by) if isinstance(part, tuple) else part for part in tree)


def depends_on_sign(tree: tuple) -> bool:
    r"""Whether a variable stands under a root, in an exponent's base or in a logarithm: \sqrt{x^2} is x for x > 0 only."""
    if tree[0] == "^" and not (tree[2][0] == "n" and tree[2][1].denominator == 1) and letters(tree):
        return "abs" not in functions(tree[1])
    if (tree[0] == "log" or tree[:2] == ("fn", "ln")) and letters(tree):
        return "abs" not in functions(tree)
    return any(map(depends_on_sign, children(tree)))


# --- exact values


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


# --- intervals


def interval(number: Fraction):
    if max(number.numerator.bit_length(), number.denominator.bit_length()) > MAX_EXPONENT:
        raise Undefined("too large")
    return IV.mpf(number.numerator) / IV.mpf(number.denominator)


def size(x):
    """The absolute value, as an interval."""
    return abs(x)


def holds_zero(x) -> bool:
    return (0 in x.real and 0 in x.imag) if isinstance(x, IV.mpc) else 0 in x


def nothing(x) -> bool:
    """Zero, as far as can be told."""
    return holds_zero(x) and bool(size(x) < TINY)


def value(tree: tuple, at: dict):
    """The interval of a tree at a point. Raises Undefined where it has none, or none that is finite."""
    result = _value(tree, at)
    parts = (result.real, result.imag) if isinstance(result, IV.mpc) else (result,)
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
    numbers = [whole(value(part, at)) for part in tree[1:]]
    if kind == "!":
        return IV.mpf(math.factorial(numbers[0]))
    return IV.mpf(math.comb(*numbers))


def integer(x) -> Fraction | None:
    """The exponent n of (-1)^n, at a point where n is an integer."""
    low, high = (None, None) if isinstance(x, IV.mpc) else ends_of(x)
    return low if low == high and low is not None and low.denominator == 1 else None


def exact_or_none(tree: tuple) -> Fraction | None:
    try:
        return exact(tree)
    except Undefined:
        return None


def whole(x) -> int:
    """The whole number in an interval, of which there is a factorial."""
    if not isinstance(x, IV.mpc) and size(x) <= MAX_FACTORIAL:
        number = round(ends_of(x)[0])
        if number >= 0 and nothing(x - number):
            return number
    raise Undefined("a factorial or binomial of no whole number")


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
    real = not isinstance(base, IV.mpc)
    if real and not isinstance(exponent, IV.mpc) and base > 0:
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
    if not isinstance(x, IV.mpc):
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
    if isinstance(x, IV.mpc):
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
            raise Undefined("maybe a whole number")
        return IV.mpf(ends.pop())
    up, down = IV.exp(x), IV.exp(-x)
    if name == "sinh":
        return (up - down) / 2
    if name == "cosh":
        return (up + down) / 2
    if name == "tanh":
        return (up - down) / (up + down)
    raise Undefined(name)
