r"""Are two closed forms equal? Rationals exactly, the rest by value: intervals of 70 digits that overlap or don't.

A form without variables has one value, a form with variables is compared at several points. Values are mpmath's
intervals, which enclose what was meant whatever was rounded on the way: two that don't overlap are proof that the forms
differ. Two that overlap, to 40 digits and more at each point, are taken as equal. That is no proof, but it can't be had
without the right answer, which is all that a reward asks. The cost is linear in the length: nothing is expanded.

Points are positive integers and fractions, so that n! and \sqrt{x} have values; negative ones join where no root,
logarithm or real power depends on the sign.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from rewards._math.intervals import CONSTANTS, interval, is_complex, nothing, same_value, value
from rewards._math.rationals import Undefined, children, exact

# for the variables in alphabetical order: integers, fractions, and fractions below zero
POINTS = (
    tuple(Fraction(n) for n in (3, 5, 2, 7, 11, 4, 13, 6)),
    tuple(Fraction(n) for n in (4, 13, 6, 3, 8, 5, 2, 10)),
    tuple(Fraction(n, 97) for n in (41, 67, 23, 131, 89, 151, 13, 59)),
    tuple(Fraction(n, 89) for n in (211, 37, 167, 71, 19, 101, 131, 47)),
)
NEGATIVE = tuple(Fraction(-n, 83) for n in (101, 31, 59, 173, 23, 67, 131, 41))


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
    def known(self) -> dict[tuple, list]:
        """Its values by the variables and the number of points that they were asked for."""
        return {}

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
    if compared >= min(2, len(at)):
        return True
    return None if a.defined and b.defined else False


def proportion(a: Form, b: Form) -> int | None:
    """The sign of the constant c with a = c b, 0 where there is none, None where that can't be told."""
    first, compared, at = None, 0, points(a, b)
    for u, v in zip(values(a, at), values(b, at), strict=True):
        if u is None or v is None or nothing(u) or nothing(v):
            continue
        ratio = u / v
        if is_complex(ratio):
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
    (found,) = values(a, points(a)) if not a.variables else (None,)
    if found is None or is_complex(found):
        return None
    return 1 if found > 0 else -1 if found < 0 else 0 if nothing(found) else None


def near(a: Form, value: Fraction, within: Fraction) -> bool:
    """Whether a form without variables is as near to a value as that."""
    if a.rational is not None:
        return abs(a.rational - value) <= within
    (found,) = values(a, points(a)) if not a.variables else (None,)
    return found is not None and not is_complex(found) and bool(abs(found - interval(value)) <= interval(within))


def points(*forms: Form, negative: bool = False) -> list[dict]:
    names = sorted(set().union(*(form.variables for form in forms)))
    if not names:
        return [{}]
    signed = not negative and any(depends_on_sign(form.tree) for form in forms)
    more = [Fraction(17 + i) for i in range(len(names))]
    return [dict(zip(names, [*point, *more], strict=False)) for point in POINTS + (() if signed else (NEGATIVE,))]


def values(form: Form, at: list[dict]) -> list:
    """The intervals at some points, None where there is no value; worked out once, as a set compares all with all."""
    key = (*at[0], len(at))
    if key not in form.known:
        form.known[key] = [value_or_none(form.tree, point) for point in at]
    return form.known[key]


def value_or_none(tree: tuple, point: dict):
    try:
        return value(tree, {name: interval(number) for name, number in point.items()})
    except (Undefined, ArithmeticError, ValueError, TypeError):  # mpmath raises these outside a function's domain
        return None


# --- trees


def letters(tree: tuple) -> set[str]:
    if tree[0] == "v":
        return {tree[1]} - set(CONSTANTS)
    return set().union(*map(letters, children(tree)))


def functions(tree: tuple) -> set[str]:
    return ({tree[1]} if tree[0] == "fn" else set()).union(*map(functions, children(tree)))


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
