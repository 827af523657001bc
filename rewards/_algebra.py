r"""Are two closed forms equal? Decided exactly, both ways, at a bounded cost and without a computer algebra system.

A form is brought to a quotient of two sums {monomial: coefficient}. A monomial multiplies powers of variables, pi, e, i
and prime numbers; coefficients are rationals. Roots of rationals are split into primes with exponents in (0, 1), whose
products are linearly independent over the rationals (Besicovitch 1940), so a sum is zero only when it is empty, and two
quotients are equal exactly when they cross-multiply to the same sum. pi and e count as variables, which are taken as
positive where a root of one is.

What has no such form (sin, nested radicals, roots of sums) becomes an opaque factor: equality is then still a proof,
inequality is not. `differ` closes most of that gap: it evaluates both trees in floating point with bounds on the error, and
only values further apart than their bounds refute. Nothing is guessed: `equal` returns None where neither can tell.
"""

import cmath
import contextlib
import math
from collections.abc import Callable
from fractions import Fraction
from functools import cached_property

from rewards._latex import TooCostly, Unsupported

MAX_BITS = 40_000  # of a number: 2006! has 19,122
MAX_TERMS = 400  # of a sum
MAX_WORK = 10_000  # products of terms in one form, big numbers counting more: about 0.1 s
MAX_DIVISOR = 10_000  # tried under a root
PI, I_PI = ((r"\pi", 1),), ((r"\pi", 1), ("i", 1))
POINTS = ((3, 5, 2, 7, 11), (8, 3, 13, 5, 2), (2, 9, 4, 17, 6), (0.37, 0.71, 0.23, 0.59, 0.83))  # for the variables


class Undefined(Exception):
    """Without a value, such as 1/0."""


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
            if exact.times(left[0], right[1]) == exact.times(right[0], left[1]):
                return True
            if not any(opaque(side) for side in left + right):
                return False
            if exact.vanishes(a.minus(b).known()[0]):
                return True
        except TooCostly:
            pass
    return False if differ(a.tree, b.tree) else None


def proportional(a: dict, b: dict) -> Fraction | None:
    """The rational c with a = c b, if there is one: equations scale by it."""
    if not a or len(a) != len(b) or a.keys() != b.keys():
        return None
    ratios = {a[m] / b[m] for m in a}
    return ratios.pop() if len(ratios) == 1 else None


def variables(sum_: dict) -> set[str]:
    """The atoms of a sum that may vary: neither numbers nor pi, e, i."""
    return {atom for m in sum_ for atom, _ in m if not atom.isdigit() and atom not in (r"\pi", "e", "i")}


def opaque(sum_: dict) -> bool:
    return any("(" in atom for m in sum_ for atom, _ in m)


def rational(quotient: tuple[dict, dict]) -> Fraction | None:
    above, below = quotient
    if above.keys() <= {()} and below.keys() == {()}:
        return above.get((), Fraction(0)) / below[()]
    return None


class Exact:
    """Exact arithmetic on quotients under a budget of work."""

    def __init__(self):
        self.work = 0

    def spend(self, amount: float) -> None:
        self.work += amount
        if self.work > MAX_WORK:
            raise TooCostly("too much algebra")

    def number(self, value: Fraction) -> Fraction:
        bits = value.numerator.bit_length() + value.denominator.bit_length()
        if bits > MAX_BITS:
            raise TooCostly(f"a number of {bits} bits")
        self.spend(1 + bits / 100)
        return value

    # --- sums: {monomial: coefficient}, a monomial being a sorted tuple of (atom, exponent)

    def plus(self, a: dict, b: dict) -> dict:
        total = dict(a)
        for monomial, coefficient in b.items():
            value = self.number(total.pop(monomial, Fraction(0)) + coefficient)
            if value:
                total[monomial] = value
        if len(total) > MAX_TERMS:
            raise TooCostly(f"a sum of {len(total)} terms")
        return total

    def times(self, a: dict, b: dict) -> dict:
        total: dict = {}
        for m, c in a.items():
            for n, d in b.items():
                monomial, factor = self.merge(m, n)
                value = self.number(total.pop(monomial, Fraction(0)) + c * d * factor)
                if value:
                    total[monomial] = value
            if len(total) > MAX_TERMS:
                raise TooCostly(f"a sum of {len(total)} terms")
        return total

    def merge(self, m: tuple, n: tuple) -> tuple[tuple, Fraction]:
        """The product of two monomials: sqrt(2) sqrt(2) leaves a factor of 2, i i one of -1."""
        powers = dict(m)
        for atom, exponent in n:
            powers[atom] = powers.get(atom, 0) + exponent
        return self.reduced(powers), self.factor(powers)

    def reduced(self, powers: dict) -> tuple:
        rest = {a: (e % 1 if a.isdigit() else e % 2 if a == "i" else e) for a, e in powers.items()}
        return tuple(sorted((a, e) for a, e in rest.items() if e))

    def factor(self, powers: dict) -> Fraction:
        factor = Fraction(1)
        for atom, exponent in powers.items():
            if atom.isdigit():
                factor *= self.integer_power(Fraction(int(atom)), math.floor(exponent))
            elif atom == "i" and exponent % 4 >= 2:
                factor = -factor
        return factor

    # --- quotients: (sum, sum)

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

    def negate(self, a):
        return {m: -c for m, c in a[0].items()}, a[1]

    def add(self, a, b):
        if a[1] == b[1]:
            return self.plus(a[0], b[0]), a[1]
        return self.plus(self.times(a[0], b[1]), self.times(b[0], a[1])), self.times(a[1], b[1])

    def multiply(self, a, b):
        return self.times(a[0], b[0]), self.times(a[1], b[1])

    def invert(self, a):
        above, below = a
        if not above:
            raise Undefined("a division by zero")
        if len(above) > 1:
            return below, above
        ((monomial, coefficient),) = above.items()  # one term moves to the other side of the bar
        powers = {atom: -exponent for atom, exponent in monomial}
        return self.times(below, {self.reduced(powers): self.factor(powers) / coefficient}), constant(1)[0]

    def power(self, base, exponent):
        value = rational(exponent)
        if value is None:
            return self.symbolic_power(base, exponent)
        if value.denominator == 1:
            return self.whole_power(base, value.numerator)
        if value.denominator > 60:
            raise Unsupported("a root of a high degree")
        known = rational(base)
        if known is not None:
            return self.root(known, value)
        if base[1] == constant(1)[0] and len(base[0]) == 1:
            ((monomial, coefficient),) = base[0].items()
            letters = [atom for atom, e in monomial if e == 1 and not atom.isdigit() and atom != "i"]
            if len(monomial) == len(letters) == 1 and coefficient > 0 and "(" not in letters[0]:
                return self.multiply(
                    self.root(coefficient, value), ({((letters[0], value),): Fraction(1)}, constant(1)[0])
                )
        whole = math.floor(value)
        return self.multiply(self.whole_power(base, whole), opaque_atom("root", base, value - whole))

    def whole_power(self, base, n: int):
        if n < 0:
            return self.whole_power(self.invert(base), -n)
        if n == 0:
            if not base[0]:
                raise Undefined("0^0")
            return constant(1)
        if len(base[0]) <= 1 and len(base[1]) == 1:
            if not base[0]:
                return base
            ((monomial, coefficient),) = base[0].items()
            powers = {atom: e * n for atom, e in monomial}
            above = self.number(self.integer_power(coefficient, n) * self.factor(powers))
            ((_, divisor),) = base[1].items()
            return {self.reduced(powers): above / self.integer_power(divisor, n)}, constant(1)[0]
        if n > MAX_TERMS:
            raise TooCostly(f"a power of {n}")
        result = constant(1)
        for bit in bin(n)[2:]:
            result = self.multiply(result, result)
            if bit == "1":
                result = self.multiply(result, base)
        return result

    def integer_power(self, base: Fraction, n: int) -> Fraction:
        bits = abs(n) * max(base.numerator.bit_length(), base.denominator.bit_length()) if abs(base) != 1 else 1
        if bits > MAX_BITS:
            raise TooCostly(f"a power of about {bits:.0e} bits" if bits < 1e300 else "a tower of powers")
        return base**n

    def root(self, value: Fraction, exponent: Fraction):
        """value^exponent for rationals, in primes: 8^(1/2) is 2 * 2^(1/2)."""
        if value == 0:
            if exponent < 0:
                raise Undefined("a division by zero")
            return {}, constant(1)[0]
        powers: dict = {}
        if value < 0:
            if exponent.denominator == 2:
                powers["i"] = exponent.numerator
            elif exponent.denominator % 2 == 0:
                raise Unsupported("an even root of a negative number")
        sign = -1 if value < 0 and exponent.denominator % 2 and exponent.numerator % 2 else 1
        for number, direction in ((abs(value.numerator), 1), (value.denominator, -1)):
            for prime, times in self.primes(number, exponent.denominator):
                powers[str(prime)] = powers.get(str(prime), 0) + direction * times * exponent
        return {self.reduced(powers): sign * self.factor(powers)}, constant(1)[0]

    def primes(self, n: int, degree: int) -> list[tuple[int, int]]:
        if n.bit_length() > 2000:
            raise TooCostly("a root of a large number")
        found, divisor = [], 2
        while divisor <= MAX_DIVISOR and divisor * divisor <= n:
            times = 0
            while n % divisor == 0:
                n, times = n // divisor, times + 1
            if times:
                found.append((divisor, times))
            divisor += 1 + divisor % 2
        self.spend(divisor / 20)
        if n > MAX_DIVISOR**2 and not found and degree == 2 and math.isqrt(n) ** 2 == n:
            return [(p, 2 * times) for p, times in self.primes(math.isqrt(n), degree)]
        if n > MAX_DIVISOR**2:
            raise Unsupported("a root of a number with large factors")
        return found + ([(n, 1)] if n > 1 else [])

    def symbolic_power(self, base, exponent):
        r"""2^{n+1} as 2 times the atom 2^[n], for a positive rational, a variable or e; other bases are opaque."""
        terms, below = exponent
        if base == ({(("e", 1),): Fraction(1)}, constant(1)[0]) == (base[0], below) and terms.keys() == {I_PI}:
            turn = terms[I_PI]
            return self.add(
                self.turn(turn, "cos"), self.multiply(self.turn(turn, "sin"), ({(("i", 1),): Fraction(1)}, below))
            )
        if base[1] == constant(1)[0] and below == constant(1)[0] and len(base[0]) == 1 and not opaque(terms):
            ((monomial, coefficient),) = base[0].items()
            parts = [
                (atom, e)
                for atom, e in monomial
                if not atom.isdigit() and atom != "i" and "(" not in atom and "[" not in atom
            ]
            known = rational(base)
            if not any(("i", 1) in m or not variables({m: 1}) for m in terms if m):
                if known is not None and known > 0:
                    primes = [
                        *self.primes(known.numerator, 1),
                        *((p, -k) for p, k in self.primes(known.denominator, 1)),
                    ]
                    bases = [(str(p), k) for p, k in primes]
                elif parts == list(monomial) and len(parts) == 1 and parts[0][1] == 1 and coefficient == 1:
                    bases = parts
                else:
                    raise Unsupported("a symbolic power")
                powers = {}
                result = constant(1)
                for atom, times in bases:
                    for m, c in terms.items():
                        if m:
                            powers[f"{atom}^[{printed({m: Fraction(1)})}]"] = c * times
                        else:
                            root = (
                                self.root(Fraction(int(atom)), c * times)
                                if atom.isdigit()
                                else ({((atom, c * times),): Fraction(1)}, constant(1)[0])
                            )
                            result = self.multiply(result, root)
                return self.multiply(result, ({tuple(sorted(powers.items())): Fraction(1)}, constant(1)[0]))
        raise Unsupported("a symbolic power")

    def vanishes(self, total: dict) -> bool:
        """Whether a sum is zero once cos^2 is 1 - sin^2."""
        lowest = {a: min(dict(m).get(a, 0) for m in total) for m in total for a, _ in m if a.startswith("cos(")}
        total = self.times(total, {tuple(sorted((a, -e) for a, e in lowest.items() if e < 0)): Fraction(1)})
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
            if name in ("tan", "cot", "sec", "csc"):
                above = {"tan": "sin", "cot": "cos"}.get(name)
                below = self.special(("fn", "sin" if name in ("cot", "csc") else "cos", arguments[1]))
                return self.multiply(
                    self.special(("fn", above, arguments[1])) if above else constant(1), self.invert(below)
                )
            if name in ("sin", "cos"):
                return self.circle(argument)[name == "cos"]
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
        if a is None or b is None or a.denominator != 1 or b.denominator != 1 or a < 0 or b < 0:
            raise Unsupported("a factorial or binomial of no whole number")
        if a > 3500:
            raise TooCostly(f"{kind} of {a if a < 10**9 else 'a huge number'}")
        self.spend(float(a))
        return constant(self.number(Fraction(math.factorial(int(a)) if kind == "!" else math.comb(int(a), int(b)))))

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


def constant(value: Fraction | int) -> tuple[dict, dict]:
    return ({(): Fraction(value)} if value else {}), {(): Fraction(1)}


def printed(sum_: dict) -> str:
    """A sum in one spelling, as part of an atom's name."""
    try:
        return "+".join(sorted(f"{c}*{'*'.join(f'{a}^{e}' for a, e in m)}" for m, c in sum_.items()))
    except ValueError as error:  # CPython prints no integer of more than 4300 digits
        raise TooCostly("a large number in a function") from error


def opaque_atom(name: str, argument: tuple[dict, dict], exponent: Fraction | int) -> tuple[dict, dict]:
    atom = f"{name}({printed(argument[0])}/{printed(argument[1])})"
    if len(atom) > 2000:
        raise TooCostly("a large argument")
    return {((atom, exponent),): Fraction(1)}, constant(1)[0]


# --- refutation by numbers with bounds on their errors: (value, error); complex ones in + - * / and square roots only

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
        at = {name: (float(value), abs(value) * ULP) for name, value in zip(names, point, strict=False)}
        at |= {r"\pi": (math.pi, math.pi * ULP), "e": (math.e, math.e * ULP), "i": (1j, 0.0)}
        try:
            (u, du), (v, dv) = ball(a, at), ball(b, at)
        except (Undefined, Unsupported, ArithmeticError, ValueError):
            continue
        compared = True
        if abs(u - v) > 2 * (du + dv):
            return True
    return False


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
