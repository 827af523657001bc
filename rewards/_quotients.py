r"""Exact arithmetic on quotients of sums of monomials, at a bounded cost.

A sum is {monomial: coefficient}, a monomial a sorted tuple of (atom, exponent), a coefficient a Fraction; a quotient is a
pair of sums. Atoms are strings: a variable, r"\pi", "e", "i", a prime number such as "2" with an exponent in (0, 1), a
symbolic power such as "2^[n]", or an opaque factor such as "sin(x)", told by its bracket.
"""

import math
from fractions import Fraction

from rewards._latex import TooCostly, Unsupported

MAX_BITS = 40_000  # of a number: 2006! has 19,122
MAX_TERMS = 400  # of a sum
MAX_WORK = 10_000  # products of terms in one form, big numbers counting more: about 0.1 s
MAX_DIVISOR = 10_000  # tried under a root
PI, I_PI = ((r"\pi", 1),), ((r"\pi", 1), ("i", 1))


class Undefined(Exception):
    """Without a value, such as 1/0."""


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


class Arithmetic:
    """The operations, under one budget of work."""

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
        if not above or self.vanishes(above):  # 0/0 would be proportional to every gold
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
            if not base[0] or self.vanishes(base[0]):
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

    def vanishes(self, total: dict) -> bool:
        """Whether a sum is zero in disguise."""
        return not total

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
