r"""Final answers as people and models write them: one spelling, tokens, and a syntax tree for closed forms.

`normalize` undoes what only looks different (Unicode, spacing, delimiters, wrappers), `tokenize` cuts the result into
tokens, and `Parser` reads a formula into nested tuples. Everything is linear in the length, bounded in depth, and reads
characters only: nothing a model writes is ever evaluated here.

Trees: ("n", Fraction), ("v", name), ("+", [trees]), ("*", [trees]), ("neg", t), ("/", a, b), ("^", a, b), ("!", t),
("binom", a, b), ("fn", name, t) and ("log", base, t).
"""

import re
from fractions import Fraction

MAX_DEPTH = 40  # of nested brackets: the deepest gold of MATH-500 has 6
MAX_NUMBER = 400  # characters of one number; CPython refuses to read more than 4300 digits


class Unsupported(Exception):
    """It may be mathematics, but not of the kind that is read here."""


class Malformed(Exception):
    """No reading as mathematics."""


class TooCostly(Exception):
    """Working it out would pass a bound."""


FUNCTIONS = {
    "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "coth", "sech", "csch",
    "ln", "exp", "abs", "cis",
}  # fmt: skip
GREEK = {
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "kappa", "lambda", "mu", "nu", "xi",
    "rho", "sigma", "tau", "phi", "chi", "psi", "omega", "Gamma", "Delta", "Theta", "Lambda", "Sigma", "Phi",
    "Psi", "Omega", "ell", "hbar",
}  # fmt: skip
WORDS = FUNCTIONS | GREEK | {"log", "sqrt", "pi", "infty"}  # also written without their backslash
ALIASES = {
    "infinity": "infty", "inf": "infty", "oo": "infty", "asin": "arcsin", "acos": "arccos", "atan": "arctan", "Abs": "abs",
}  # fmt: skip
TOKEN = re.compile(
    r"\0[^\0]*\0|[0-9]*\.[0-9]*\\overline\s*(?:\{[0-9]+\}|[0-9])|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
    r"|\\[a-zA-Z]+|\\.|[a-zA-Z]+|\*\*|<=|>=|\S",
    re.S,
)
OPEN = {"(": 0, "[": 0, "{": 1, r"\{": 2, r"\begin": 3, r"\langle": 4, r"\lfloor": 5, r"\lceil": 6}
CLOSE = {")": 0, "]": 0, "}": 1, r"\}": 2, r"\end": 3, r"\rangle": 4, r"\rfloor": 5, r"\rceil": 6}


def tokenize(s: str) -> list[str]:
    """The tokens of a normalized answer; brackets match. Raises Malformed or TooCostly."""
    tokens: list[str] = []
    for token in TOKEN.findall(s):
        if token.isascii() and token.isalpha() and len(token) > 1:
            word = ALIASES.get(token, token)
            if word in WORDS:
                tokens.append("\\" + word)
            elif token in ("or", "and", "to"):
                tokens.append(f"\0{token}\0")
            else:
                tokens += token
        elif len(token) > MAX_NUMBER and token[0] != "\0":
            raise TooCostly(f"a number of {len(token)} characters")
        else:
            tokens.append({"**": "^", "<=": r"\le", ">=": r"\ge"}.get(token, token))
    stack: list[int] = []
    for token in tokens:
        if token in OPEN:
            stack.append(OPEN[token])
            if len(stack) > MAX_DEPTH:
                raise TooCostly(f"brackets nested over {MAX_DEPTH} deep")
        elif token in CLOSE and (not stack or stack.pop() != CLOSE[token]):
            raise Malformed(f"{token!r} closes nothing")
    if stack:
        raise Malformed("a bracket is left open")
    return tokens


def literal(token: str) -> Fraction:
    r"""The exact value of a number token: 12, 1.50, .5, 5., 3e5, 0.1\overline{6}."""
    plain, _, repeating = token.partition(r"\overline")
    plain, _, power = plain.lower().partition("e")
    if len(power) > 4:
        raise TooCostly("a huge power of ten")
    whole, _, decimals = plain.partition(".")
    value = Fraction(int("0" + whole + decimals), 10 ** len(decimals))
    if repeating:
        block = repeating.strip(" {}")
        value += Fraction(int(block), (10 ** len(block) - 1) * 10 ** len(decimals))
    return value * Fraction(10) ** int(power or 0)


def is_number(token: str) -> bool:
    return token[0] in "0123456789" or (token[0] == "." and len(token) > 1)


def is_integer(token: str) -> bool:
    return token.isascii() and token.isdigit()  # isdigit alone takes ① too


class Parser:
    """Recursive descent over tokens. Raises Malformed for what isn't a formula, Unsupported for one of another kind."""

    def __init__(self, tokens: list[str]):
        self.tokens, self.i, self.bars = tokens, 0, 0

    def parse(self) -> tuple:
        tree = self.over()
        if self.i < len(self.tokens):
            raise Malformed(f"{self.tokens[self.i]!r} is out of place")
        return tree

    def peek(self, ahead: int = 0) -> str:
        return self.tokens[self.i + ahead] if self.i + ahead < len(self.tokens) else ""

    def take(self, expected: str = "") -> str:
        token = self.peek()
        if not token or (expected and token != expected):
            raise Malformed(f"{expected or 'more'} expected" + (f", not {token!r}" if token else " at the end"))
        self.i += 1
        return token

    def over(self) -> tuple:
        r"""A sum, or one above another in plain TeX: {a \over b}, {n \choose k}."""
        tree = self.sum()
        if self.peek() not in (r"\over", r"\choose"):
            return tree
        kind = "/" if self.take() == r"\over" else "binom"
        return kind, tree, self.sum()

    def sum(self) -> tuple:
        terms = []
        while True:
            negative = False
            while self.peek() in ("+", "-") and self.peek():
                negative ^= self.take() == "-"
            term = self.product()
            terms.append(("neg", term) if negative else term)
            if self.peek() not in ("+", "-"):
                return terms[0] if len(terms) == 1 else ("+", terms)

    def product(self) -> tuple:
        factors = [self.factor()]
        while True:
            token = self.peek()
            if token == "*":
                self.take()
                factors.append(self.signed())
            elif token == "/":
                self.take()
                divisor = self.signed()
                if self.starts_factor():  # 1/2x: half of x, or one over 2x?
                    raise Unsupported("a product behind a slash")
                left = factors[0] if len(factors) == 1 else ("*", factors)
                factors = [("/", left, divisor)]
            elif self.starts_factor():
                before = self.tokens[self.i - 1]
                if is_number(token) and is_number(before):
                    raise Malformed("two numbers side by side")
                if (
                    is_number(token) and before.isalpha() and before != "i"
                ):  # E2 isn't a product of E and 2, nor 0x2f1 zero
                    raise Unsupported("a digit behind a letter")
                factors.append(self.factor())
            else:
                return factors[0] if len(factors) == 1 else ("*", factors)

    def signed(self) -> tuple:
        if self.peek() in ("+", "-"):
            return ("neg", self.signed()) if self.take() == "-" else self.signed()
        return self.factor()

    def starts_factor(self) -> bool:
        token = self.peek()
        if token in ("'", r"\prime"):
            raise Unsupported("a prime")
        if not token or token in '+-*/^_!%,:;=<>)]}"&' or token in (r"\over", r"\choose"):
            return False
        if token == "|":
            return not self.bars
        if token[0] == "\0":
            raise Unsupported("words in a formula")
        return token not in CLOSE

    def factor(self) -> tuple:
        tree = self.atom()
        while self.peek() in ("^", "!", "\0degree\0"):
            token = self.take()
            if token == "\0degree\0":
                tree = ("*", [tree, ("/", ("v", r"\pi"), ("n", Fraction(180)))])
            elif token == "!":
                if self.peek() == "!":
                    raise Unsupported("a double factorial")
                tree = ("!", tree)
            else:
                tree = ("^", tree, self.group(whole_number=True))
                if self.peek() == "^":
                    raise Malformed("two exponents")
        return tree

    def group(self, whole_number: bool = False) -> tuple:
        r"""A braced argument, or one token as in \frac12; x^10 is read as x^{10}."""
        token = self.peek()
        if token == "{":
            self.take()
            tree = self.over()
            self.take("}")
            return tree
        if whole_number and token in ("-", "+"):
            return ("neg", self.group(True)) if self.take() == "-" else self.group(True)
        if is_number(token or "x") and not whole_number and len(token) > 1:
            self.tokens[self.i] = token[1:]
            return ("n", literal(token[0]))
        return self.atom()

    def bracketed(self, close: str) -> tuple:
        tree = self.over()
        self.take(close)
        return tree

    def atom(self) -> tuple:
        token = self.take()
        if is_number(token):
            return self.number(token)
        if token in "([{":
            return self.bracketed({"(": ")", "[": "]", "{": "}"}[token])
        if token == "|" and not self.bars:
            self.bars += 1
            tree = ("fn", "abs", self.bracketed("|"))
            self.bars -= 1
            return tree
        if (token.isascii() and token.isalpha()) or (token == r"\pi" or token[1:] in GREEK):
            return ("v", token + self.subscript())
        if token == r"\frac":
            above = self.group()
            return ("/", above, self.group())
        if token == r"\binom":
            above = self.group()
            return ("binom", above, self.group())
        if token == r"\sqrt":
            index = ("n", Fraction(2))
            if self.peek() == "[":
                self.take()
                index = self.bracketed("]")
            return ("^", self.group(whole_number=True), ("/", ("n", Fraction(1)), index))
        if token in (r"\lfloor", r"\lceil"):
            return ("fn", token[2:], self.bracketed("\\r" + token[2:]))
        if token == r"\log":
            base = ("n", Fraction(10))
            if self.peek() == "_":
                self.take()
                base = self.group(whole_number=True)
            return ("fn", "ln", self.argument()) if base == ("v", "e") else ("log", base, self.argument())
        if token[1:] in FUNCTIONS:
            return self.function(token[1:])
        if token[0] == "\\" and len(token) > 1 and token[1].isalpha():
            raise Unsupported(token)
        raise Malformed(f"{token!r} starts nothing")

    def number(self, token: str) -> tuple:
        r"""A number, or a mixed one: 2\frac{1}{2}, 2 1/2."""
        value = literal(token)
        if is_integer(token) and self.peek() == r"\frac":
            start, tokens = self.i, list(self.tokens)
            fraction = self.atom()
            if fraction[1][0] == fraction[2][0] == "n" and fraction[2][1]:
                return ("n", value + fraction[1][1] / fraction[2][1])
            self.i, self.tokens = start, tokens
        elif is_integer(token) and is_integer(self.peek()) and self.peek(1) == "/" and is_integer(self.peek(2)):
            above, _, below = self.take(), self.take(), self.take()
            if not int(below):
                raise Malformed("a division by zero")
            return ("n", value + Fraction(int(above), int(below)))
        return ("n", value)

    def subscript(self) -> str:
        if self.peek() != "_":
            return ""
        self.take()
        if self.peek() != "{":
            return "_" + self.take().strip("\0")
        start, depth = self.i + 1, 0
        while True:
            depth += {"{": 1, "}": -1}.get(self.take(), 0)
            if not depth:
                return "_" + "".join(self.tokens[start : self.i - 1]).replace("\0", "")

    def function(self, name: str) -> tuple:
        power = None
        if self.peek() == "^":
            self.take()
            power = self.group(whole_number=True)
            if power == ("neg", ("n", 1)) and name in ("sin", "cos", "tan"):
                name, power = "arc" + name, None
        tree = ("fn", name, self.argument())
        return tree if power is None else ("^", tree, power)

    def argument(self) -> tuple:
        r"""Of \sin and the like: a bracket, else the factors up to the next function, as in \sin 2x\cos x."""
        if self.peek() in ("(", "["):
            tree = self.atom()
            if self.peek() == "!":
                raise Unsupported("is the factorial of the function or of its argument?")
            return tree  # a power behind it is one of the function, as in programs
        negative = self.peek() == "-" and bool(self.take())
        factors = [self.factor()]
        while self.starts_factor() and self.peek()[1:] not in FUNCTIONS | {"log"} and self.peek() not in ("(", "["):
            if self.peek() == "e" and self.peek(1) == "^":  # \sin t e^t
                break
            factors.append(self.factor())
        if self.peek() == "/":
            raise Unsupported("is the slash inside the argument?")
        tree = factors[0] if len(factors) == 1 else ("*", factors)
        return ("neg", tree) if negative else tree
