r"""Are two closed forms equal? Decided exactly, both ways, at a bounded cost and without a computer algebra system.

A form is brought to a quotient of two sums {monomial: coefficient}. A monomial multiplies powers of variables, pi, e, i
and prime numbers; coefficients are rationals. Roots of rationals are split into primes with exponents in (0, 1), whose
products are linearly independent over the rationals (Besicovitch 1940), so a sum is zero only when it is empty, and two
quotients are equal exactly when they cross-multiply to the same sum. pi and e count as variables, which are taken as
positive where a root of one is.

What has no such form (sin, nested radicals, roots of sums) becomes an opaque factor: equality is then still a proof,
inequality is not. rewards._refute closes most of that gap: it evaluates both trees in floating point with bounds on the error, and
only values further apart than their bounds refute. Nothing is guessed: `equal` returns None where neither can tell.
"""

import contextlib
import math
from collections.abc import Callable
from fractions import Fraction
from functools import cached_property

from rewards._latex import TooCostly, Unsupported
from rewards._quotients import PI, Arithmetic, Undefined, constant, opaque, opaque_atom, printed, rational
from rewards._refute import defined, differ


class Form:
    """A syntax tree of rewards._latex.Parser with its canonical quotient, or why there is none, worked out once."""

    def __init__(self, tree: tuple, work: Callable[["Exact"], tuple[dict, dict]] | None = None):
        self.tree = tree
        self.work = work or (lambda exact: exact.read(tree))
        self.exact = Exact()  # a budget: the forms of one answer share theirs

    @cached_property
    def quotient(self) -> tuple[dict, dict] | Exception:
        try:
            return self.work(self.exact)
        except (Unsupported, TooCostly, Undefined) as error:
            return error

    def known(self) -> tuple[dict, dict]:
        if isinstance(self.quotient, Exception):
            raise self.quotient
        return self.quotient

    def times(self, other: "Form") -> "Form":
        return Form(("*", [self.tree, other.tree]), lambda exact: exact.multiply(self.known(), other.known()))

    def over(self, other: "Form") -> "Form":
        tree = ("/", self.tree, other.tree)
        return Form(tree, lambda exact: exact.multiply(self.known(), exact.invert(other.known())))

    def minus(self, other: "Form") -> "Form":
        tree = ("+", [self.tree, ("neg", other.tree)])
        return Form(tree, lambda exact: exact.add(self.known(), exact.negate(other.known())))

    @property
    def rational(self) -> Fraction | None:
        """The value where it is a rational number, else None."""
        return None if isinstance(self.quotient, Exception) else rational(self.quotient)


def equal(a: Form, b: Form) -> bool | None:
    """Whether two forms are equal; None when that can't be told here."""
    left, right = a.quotient, b.quotient
    if isinstance(left, Undefined) or isinstance(right, Undefined):
        return False
    if not isinstance(left, Exception) and not isinstance(right, Exception):
        try:
            if left == right:
                return True
            exact = Exact()
            crossed = exact.times(left[0], right[1]) == exact.times(right[0], left[1])
            if not crossed and not any(opaque(side) for side in left + right):
                return False
            if crossed or exact.vanishes(a.minus(b).known()[0]):
                # a denominator of opaque parts may be zero all the same: 5(p-q)/(p-q)
                hidden = [f.tree for f, (_, below) in ((a, left), (b, right)) if len(below) > 1 and opaque(below)]
                return all(map(defined, hidden))
        except (TooCostly, Unsupported):
            pass
        except Undefined:
            return False
    if differ(a.tree, b.tree):
        return False
    # math-verify compares in floating point: a long decimal is no sin(1), however near
    return False if any(f.rational and f.rational.denominator > 10**8 for f in (a, b)) else None


class Exact(Arithmetic):
    """Syntax trees as quotients: functions with exact values or addition formulas get them, others are opaque."""

    def read(self, tree: tuple) -> tuple[dict, dict]:
        kind = tree[0]
        if kind == "n":
            return constant(self.number(tree[1]))
        if kind == "v":
            return {((tree[1], 1),): Fraction(1)}, constant(1)[0]
        if kind == "neg":
            return self.negate(self.read(tree[1]))
        if kind == "+":
            total = self.read(tree[1][0])
            for term in tree[1][1:]:
                total = self.add(total, self.read(term))
            return total
        if kind == "*":
            total = self.read(tree[1][0])
            for factor in tree[1][1:]:
                total = self.multiply(total, self.read(factor))
            return total
        if kind == "/":
            return self.multiply(self.read(tree[1]), self.invert(self.read(tree[2])))
        if kind == "^":
            return self.power(self.read(tree[1]), self.read(tree[2]))
        return self.special(tree)

    def vanishes(self, total: dict) -> bool:
        """Whether a sum is zero once cos^2 is 1 - sin^2."""
        if not opaque(total):
            return not total
        lowest = {a: min(dict(m).get(a, 0) for m in total) for m in total for a, _ in m if a.startswith("cos(")}
        total = self.times(total, {tuple(sorted((a, -e) for a, e in lowest.items() if e < 0)): Fraction(1)})  # a copy
        while total:
            found = next(((m, a) for m in total for a, e in m if a.startswith("cos(") and e >= 2), None)
            if found is None:
                return False
            monomial, atom = found
            rest = tuple((a, e - 2 if a == atom else e) for a, e in monomial if a != atom or e != 2)
            rest = {rest: total.pop(monomial)}
            sine = (("sin" + atom.removeprefix("cos"), 2),)
            total = self.plus(total, self.times(rest, {(): Fraction(1), sine: Fraction(-1)}))
        return True

    def circle(self, angle) -> list:
        """[sin, cos] of an angle, in those of its terms: sin(2x+y) by the addition formulas."""
        above, below = angle
        if below != constant(1)[0] or len(above) > 3:
            return [opaque_atom("sin", angle, 1), opaque_atom("cos", angle, 1)]
        total = [constant(0), constant(1)]
        for monomial, coefficient in sorted(above.items()):
            times = abs(coefficient.numerator)
            if monomial == PI:
                with contextlib.suppress(Unsupported):
                    total = self.rotated(total, [self.turn(coefficient, "sin"), self.turn(coefficient, "cos")])
                    continue
            if times > 8:
                raise Unsupported("a large multiple of an angle")
            part = ({monomial: Fraction(1, coefficient.denominator)}, constant(1)[0])
            sine = opaque_atom("sin", part, 1)
            part = [self.negate(sine) if coefficient < 0 else sine, opaque_atom("cos", part, 1)]
            for _ in range(times):
                total = self.rotated(total, part)
        return total

    def rotated(self, a: list, b: list) -> list:
        sine = self.add(self.multiply(a[0], b[1]), self.multiply(a[1], b[0]))
        return [sine, self.add(self.multiply(a[1], b[1]), self.negate(self.multiply(a[0], b[0])))]

    def turn(self, angle: Fraction, name: str):
        """sin or cos of angle * pi where it has square roots only, else Unsupported."""
        angle = (angle + (0 if name == "sin" else Fraction(1, 2))) % 2
        sign, angle = (-1, angle - 1) if angle >= 1 else (1, angle)
        angle = min(angle, 1 - angle)
        square = {0: 0, Fraction(1, 6): Fraction(1, 4), Fraction(1, 4): Fraction(1, 2), Fraction(1, 3): Fraction(3, 4)}
        square[Fraction(1, 2)] = 1
        if angle in (Fraction(1, 12), Fraction(5, 12)):  # (sqrt 6 -+ sqrt 2) / 4
            six, two = (self.root(Fraction(n), Fraction(1, 2)) for n in (6, 2))
            total = self.add(six, self.negate(two) if angle < Fraction(1, 4) else two)
            return self.multiply(constant(Fraction(sign, 4)), total)
        if angle not in square:
            raise Unsupported("an angle without square roots")
        return self.multiply(constant(sign), self.root(Fraction(square[angle]), Fraction(1, 2)))

    def natural_log(self, value: Fraction):
        """ln 12 as 2 ln 2 + ln 3."""
        if value <= 0:
            raise Unsupported("a logarithm outside the reals")
        total = {}
        for number, sign in ((value.numerator, 1), (value.denominator, -1)):
            for prime, times in self.primes(number, 1):
                total[((f"ln({prime})", 1),)] = Fraction(sign * times)
        return total, constant(1)[0]

    def special(self, tree: tuple):
        kind, *arguments = tree
        if kind == "fn":
            name, argument = arguments[0], self.read(arguments[1])
            value = rational(argument)
            if name in ("sin", "cos", "tan", "cot", "sec", "csc"):
                sine, cosine = self.circle(argument)
                above = {"sin": sine, "cos": cosine, "tan": sine, "cot": cosine}.get(name, constant(1))
                below = {"tan": cosine, "cot": sine, "sec": cosine, "csc": sine}.get(name, constant(1))
                return self.multiply(above, self.invert(below))
            if name == "ln" and value is not None:
                return self.natural_log(value)
            if name == "exp":
                return self.power(({(("e", 1),): Fraction(1)}, constant(1)[0]), argument)
            if name in ("floor", "ceil", "abs") and value is not None:
                return constant(Fraction({"floor": math.floor, "ceil": math.ceil, "abs": abs}[name](value)))
            return opaque_atom(name, argument, 1)
        first, second = self.read(arguments[0]), self.read(arguments[-1])
        a, b = rational(first), rational(second)
        if kind == "log":
            if a is None or b is None:
                return opaque_atom(f"log_{printed(first[0])}", second, 1)
            try:
                return constant(self.logarithm(a, b))
            except Unsupported:
                return self.multiply(self.natural_log(b), self.invert(self.natural_log(a)))
        if kind == "binom" and a is None and b is not None and b in range(9):
            product = constant(Fraction(1, math.factorial(int(b))))
            for i in range(int(b)):
                product = self.multiply(product, self.add(first, constant(-i)))
            return product
        if kind == "binom" and (a is None or b is None):
            rest = self.special(("!", ("+", [arguments[0], ("neg", arguments[1])])))
            below = self.multiply(self.special(("!", arguments[1])), rest)
            return self.multiply(self.special(("!", arguments[0])), self.invert(below))
        if a is None:
            return self.factorial(first)
        if a.denominator != 1 or b.denominator != 1 or a < 0 or b < 0:
            raise Unsupported("a factorial or binomial of no whole number")
        if a > 3500:
            raise TooCostly(f"{kind} of {a if a < 10**9 else 'a huge number'}")
        self.spend(float(a))
        return constant(self.number(Fraction(math.factorial(int(a)) if kind == "!" else math.comb(int(a), int(b)))))

    def factorial(self, argument):
        """(n+2)! as n! (n+1) (n+2), an opaque atom and factors."""
        above, below = argument
        shift = above.get((), Fraction(0))
        if below != constant(1)[0] or shift.denominator != 1 or abs(shift) > 8:
            return opaque_atom("factorial", argument, 1)
        base = ({m: c for m, c in above.items() if m}, below)
        factors = range(1, int(shift) + 1) if shift > 0 else range(int(shift) + 1, 1)
        total = constant(1)
        for i in factors:
            total = self.multiply(total, self.add(base, constant(i)))
        return self.multiply(opaque_atom("factorial", base, 1), total if shift > 0 else self.invert(total))

    def logarithm(self, base: Fraction, value: Fraction) -> Fraction:
        """log_base(value) where it is rational: log_4 8 is 3/2."""
        if base <= 0 or base == 1 or value <= 0:
            raise Unsupported("a logarithm outside the reals")
        exponents = []
        for number in (base, value):
            primes = dict(self.primes(number.numerator, 1))
            exponents.append(primes | {p: -k for p, k in self.primes(number.denominator, 1)})
        below, above = exponents
        if not above:
            return Fraction(0)
        ratios = {Fraction(above.get(p, 0), k) for p, k in below.items()}
        if above.keys() != below.keys() or len(ratios) > 1:
            raise Unsupported("an irrational logarithm")
        return ratios.pop()
