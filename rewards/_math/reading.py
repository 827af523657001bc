r"""Reading an answer that is more than one formula: tuples, intervals, sets, lists, matrices, equations, units, words.

`read` splits an answer into a tree of Nodes with closed forms (rewards._math.numeric.Form) at its leaves.
"""

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from rewards._math.latex import CLOSE, FUNCTIONS, GREEK, OPEN, Malformed, Parser, TooCostly, Unsupported, tokenize
from rewards._math.numeric import Form
from rewards._math.spelling import THOUSANDS, normalize
from rewards._math.structure import EMPTY_SET, REALS, Node, label
from rewards._math.words import CHANGES, CURRENCIES, LETTER_UNITS, canonical, leads, unit

MAX_PARTS = 150
RELATIONS = {"=": "=", "<": "<", ">": ">", r"\le": "<=", r"\ge": ">=", r"\ne": "!=", r"\in": "in", r"\equiv": "="}
MATRICES = {"pmatrix", "bmatrix", "matrix", "Bmatrix", "smallmatrix", "array"}
INFINITY = {(r"\infty",): "+", ("+", r"\infty"): "+", ("-", r"\infty"): "-"}
WORDS = re.compile(r"[\0(\s]*[^\W\d_](?:[^\W\d_]|[\s\0.,;:'()/&-])*")
CHOICE = re.compile(r"\0?\s*(?:(?:option|choice)\s*\0?\s*)?(?:\(\s*([A-Za-z])\s*\)|([A-Za-z])\)?)[.:]?\s*\0?", re.I)
NUMERALS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10}
HEXADECIMAL = re.compile(r"(-?)0[xX]([0-9a-fA-F]+)")
BASED = re.compile(
    r"(-?)[({\0]?((?=[A-F]*[0-9])[0-9A-F]+|(?=[a-f]*[0-9])[0-9a-f]+)[)}\0]?\s*_\s*"
    r"(?:([0-9])|\{[\0\s]*(?:([0-9]{1,2})|(" + "|".join(NUMERALS) + r"))[\0\s]*\})"
)
SEPARATORS = (",", ";", "\0or\0", "\0and\0")

UNIT_SIGNS = {"%", "/", "*", "^", "{", "}", "-", "1", "2", "3"}
NAME_SIGNS = {r"\angle", r"\overline", r"\hat", r"\cap", r"\cup", r"\triangle", r"\prime", r"\mid", r"\perp"}
CONNECTIVES = {"so", "therefore", "thus", "hence", "then", "finally", "yes", "ok"}


@lru_cache(maxsize=8192)
def read(answer: str) -> Node:
    """The tree of an answer. Raises Malformed, Unsupported or TooCostly."""
    s = normalize(answer)
    if not s:
        raise Malformed("nothing there")
    choice = CHOICE.fullmatch(s)
    if choice and ("\0" in s or "(" in s or (choice[1] or choice[2]) in "ABCDEFGH"):
        return Node("choice", tag=choice[1] or choice[2])
    if program := HEXADECIMAL.fullmatch(s):
        return Node("based", tag=f"{program[1]}0x{program[2].lstrip('0').upper()}")
    based = BASED.fullmatch(re.sub(r"^[a-zA-Z]\s*=\s*", "", s))
    if based:
        base = NUMERALS[based[5]] if based[5] else int(based[3] or based[4])
        if (1 if based[2].isdigit() else 10) < base <= 36:
            return Node("based", tag=f"{based[1]}{based[2].lstrip('0').upper() or '0'} base {base}")
    if (
        WORDS.fullmatch(s)
        and ("\0" in s or not s.isascii() or re.search("[a-zA-Z]{4}", s))
        and not re.search(r"\0\s*(?:or|and)\s*\0", s)
    ):
        return in_words(s)
    if r"\ldots" in s:
        raise Malformed("it continues without an end")
    if "(" not in s and "[" not in s and r"\{" not in s:  # inside brackets 1,234 is two numbers
        s = THOUSANDS.sub(lambda m: m[0].replace(",", ""), s)
    tokens = tokenize(s)
    try:
        node = build(tokens)
    except Malformed:
        line = s.rpartition("\n")[2]  # working above, the answer below
        if line == s or r"\begin" in s:
            raise
        node = build(tokenize(line))
    if s.isalpha() and node.form:  # "no" may be a word or a product: the other side tells
        node = Node("form", tag=s.casefold(), form=node.form)
    return node


def in_words(phrase: str) -> Node:
    words = canonical(phrase)
    if words == "all reals":
        return REALS
    return EMPTY_SET if words == "no solution" else Node("words", tag=words)


def depth_of(tokens: list[str]) -> list[int]:
    """How many brackets are open behind each token."""
    depth, depths = 0, []
    for token in tokens:
        depth += (token in OPEN) - (token in CLOSE)
        depths.append(depth)
    return depths


def split(tokens: list[str], depths: list[int], marks) -> tuple[list[list[str]], list[str]]:
    """The parts between the marks that stand outside brackets, and those marks."""
    parts: list[list[str]] = [[]]
    found = []
    for token, depth in zip(tokens, depths, strict=True):
        mark = f"\0{token.strip(chr(0) + ' ').lower()}\0" if token[0] == "\0" else token
        mark = {"\0, or\0": "\0or\0", "\0, and\0": "\0and\0", "\0,\0": ","}.get(mark, mark)
        if depth == 0 and mark in marks:
            parts.append([])
            found.append(mark)
        else:
            parts[-1].append(token)
    return parts, found


class Part(NamedTuple):
    """Tokens of an answer, or of a part of one, and how many brackets are open after each of them."""

    tokens: list[str]
    depths: list[int]

    @property
    def enclosed(self) -> bool:
        """Whether the first bracket closes at the end."""
        return self.tokens[0] in OPEN and self.depths[:-1].count(0) == 0

    def split(self, marks) -> tuple[list[list[str]], list[str]]:
        return split(self.tokens, self.depths, marks)


def build(tokens: list[str]) -> Node:
    """The tree of these tokens, by the first of the readings that fits; where none does, they are one formula."""
    if not tokens:
        raise Malformed("a part is missing")
    part = Part(tokens, depth_of(tokens))
    for reading in READINGS:
        if (node := reading(part)) is not None:
            return node
    return Node("form", form=Form(Parser(list(tokens)).parse()))


def grouped(part: Part) -> Node | None:
    """{...}, which only groups"""
    return build(part.tokens[1:-1]) if part.enclosed and part.tokens[0] == "{" else None


def separated(part: Part) -> Node | None:
    """1, 2 and 3"""
    parts, marks = part.split(SEPARATORS)
    if not marks:
        return None
    parts = [p for i, p in enumerate(parts) if p or not (0 < i < len(parts) - 1 and marks[i] != marks[i - 1])]
    nodes = [build(p) for p in parts]
    nodes = [n for node in nodes for n in (node.parts if node.kind == "list" else (node,))]
    if nodes[0].tag in CONNECTIVES and len(nodes) == 2:  # So, x = 5
        return nodes[1]
    if nodes[-1].kind == "words" and nodes[-2].kind == "unit" and not CHANGES & set(nodes[-1].tag.split()):
        nodes.pop()  # 72 cards in May and June
        if len(nodes) == 1:
            return nodes[0]
    if len(nodes) > MAX_PARTS:
        raise TooCostly(f"a list of {len(nodes)} parts")
    return Node("list", tuple(nodes), "and" if "\0and\0" in marks else "or" if "\0or\0" in marks else "")


def united(part: Part) -> Node | None:
    r"""(1,2) \cup (3,4), unless it is the name of a value: |A \cup B| = 5"""
    parts, marks = part.split((r"\cup",))
    return Node("union", tuple(map(build, parts))) if marks and set(part.split(RELATIONS)[1]) != {"="} else None


def related(part: Part) -> Node | None:
    """x = 5, 1 < x < 3"""
    parts, marks = part.split(RELATIONS)
    if not marks:
        return None
    if marks == [r"\in"] and label(build(parts[0])):
        return build(parts[1])
    if r"\in" in marks:
        raise Unsupported("a relation of relations")
    left = [named(p) for p in parts[:-1]] if set(marks) == {"="} else [build(p) for p in parts[:-1]]
    return Node("relation", (*left, build(parts[-1])), " ".join(RELATIONS[m] for m in marks))


def rounded(part: Part) -> Node | None:
    r"""12\pi \approx 37.7"""
    parts, marks = part.split((r"\approx",))
    if not marks:
        return None
    if not parts[0] or len(parts) > 2:
        return build(parts[-1])
    return Node("rounding", (named(parts[0]), build(parts[1])), "".join(parts[1]))


def with_either_sign(part: Part) -> Node | None:
    r"""\pm 3, two values"""
    signs = [t for t in part.tokens if t in (r"\pm", r"\mp")]
    if len(signs) > 1:
        raise Unsupported("several signs")
    if not signs or (part.enclosed and part.tokens[0] == r"\{"):
        return None
    return Node("list", tuple(build([sign if t in signs else t for t in part.tokens]) for sign in "+-"))


def complement(part: Part) -> Node | None:
    r"""\reals \setminus \{0\}"""
    parts, marks = part.split((r"\setminus",))
    return Node("complement", (build(parts[1]),)) if marks and parts[0] == [r"\reals"] and len(parts) == 2 else None


def bracketed(part: Part) -> Node | None:
    """(1, 2), [1, 2), {1, 2}, {x : x > 3}"""
    tokens = part.tokens
    if not part.enclosed or tokens[0] not in ("(", "[", r"\{", r"\langle"):
        return None
    inner = tokens[1:-1]
    brackets = "()" if tokens[0] == r"\langle" else tokens[0] + tokens[-1]
    if tokens[0] == r"\{":
        for bar in ("|", ":"):  # set-builder
            parts, marks = split(inner, depth_of(inner), (bar,))
            if len(marks) == 1 and parts[0][:1] and parts[0][0].isalpha() and parts[0][1:2] in ([], [r"\in"]):
                if parts[0][1:] not in ([], [r"\in", r"\reals"]):
                    raise Unsupported("a set of other numbers")
                return build(parts[1])
    node = build(inner)
    if node.kind == "list":
        return Node("seq", node.parts, brackets)
    if tokens[0] == r"\{":
        return Node("seq", (node,), brackets)
    if brackets in ("()", "[]"):
        return node
    raise Malformed(f"{brackets} around one part")


def only_words(part: Part) -> Node | None:
    return in_words("".join(part.tokens)) if all(token[0] == "\0" for token in part.tokens) else None


def signed_brackets(part: Part) -> Node | None:
    """-(1, 2)"""
    tokens = part.tokens
    if not (tokens[0] in "+-" and tokens[1:2] == ["("] and part.depths[1:-1].count(0) == 0 and "," in tokens):
        return None
    node = build(tokens[1:])
    if tokens[0] == "-":
        node = Node(node.kind, tuple(negative(p) for p in node.parts), node.tag)
    return node


def negative(node: Node) -> Node:
    if node.form is None:
        raise Unsupported("the negative of something other than a number")
    return Node("form", form=Form(("neg", node.form.tree)))


def after_a_lead(part: Part) -> Node | None:
    """The value is 5; Ann: 5"""
    tokens = part.tokens
    if not (tokens[0][0] == "\0" and tokens[0].strip("\0 .").lower() not in CURRENCIES and leads(tokens[0])):
        return None
    start = next((i for i, t in enumerate(tokens) if t[0] != "\0" and t not in (":", "-", ",", ".")), 0)
    if all(leads(t) for t in tokens[1:start] if t[0] == "\0") and tokens[start] not in ("+", "*", "/", "^", "="):
        return build(tokens[start - (tokens[start - 1] == "-") :])
    return None


def residue(part: Part) -> Node | None:
    r"""3 \pmod 7"""
    at = next((i for i, t in enumerate(part.tokens) if t in (r"\pmod", r"\bmod")), None)
    return None if at is None else Node("residue", (build(part.tokens[:at]), build(part.tokens[at + 1 :])))


def ratio(part: Part) -> Node | None:
    """2:3, 12:30"""
    parts, marks = part.split((":", "\0to\0"))
    if not marks:
        return None
    is_time = all(len(p) == 1 and len(p[0]) == 2 for p in parts[1:])
    return Node("ratio", tuple(map(build, parts)), "time" if is_time else "")


def constant(part: Part) -> Node | None:
    if tuple(part.tokens) in INFINITY:
        return Node("infinity", tag=INFINITY[tuple(part.tokens)])
    return {(r"\reals",): REALS, (r"\emptyset",): EMPTY_SET}.get(tuple(part.tokens))


def matrix(part: Part) -> Node | None:
    r"""Any matrix environment, also after a factor: \frac{1}{2}\begin{pmatrix}1\\2\end{pmatrix}"""
    tokens = part.tokens
    if r"\begin" not in tokens:
        return None
    start = tokens.index(r"\begin")
    open_name, close_name = environment(tokens, start), environment(tokens, tokens.index(r"\end"))
    end = tokens.index(r"\end")
    if open_name[0] not in MATRICES or open_name[0] != close_name[0] or close_name[1] != len(tokens):
        raise Unsupported("an environment")
    body = tokens[open_name[1] : end]
    if open_name[0] == "array" and body[:1] == ["{"]:
        body = body[body.index("}") + 1 :]
    rows = [row for row in split(body, depth_of(body), ("\\\\",))[0] if row]
    cells = [split(row, depth_of(row), ("&",))[0] for row in rows]
    if not cells or len({len(row) for row in cells}) > 1 or sum(map(len, cells)) > MAX_PARTS:
        raise Unsupported("a matrix of uneven or too many cells")
    factor = tokens[:start][: -1 if tokens[start - 1 : start] == ["*"] else None]
    nodes = [build(cell) for row in cells for cell in row]
    if factor:
        scale = ("n", Fraction(-1)) if factor == ["-"] else Parser(list(factor)).parse()
        if any(node.form is None for node in nodes):
            raise Unsupported("a multiple of a matrix")
        nodes = [Node("form", form=Form(scale).times(node.form)) for node in nodes]
    return Node("matrix", tuple(nodes), f"{len(cells)} by {len(cells[0])}")


def environment(tokens: list[str], at: int) -> tuple[str, int]:
    r"""The name in \begin{name}, and where the tokens behind it start."""
    end = tokens.index("}", at) if "}" in tokens[at:] else at
    return "".join(tokens[at + 2 : end]).replace("\0", ""), end + 1


def with_unit(part: Part) -> Node | None:
    r"""5\text{ cm}^2, 50\%, \$5"""
    return quantity(part.tokens)


def quantity(tokens: list[str]) -> Node | None:
    """A value with a unit after it or a currency in front, else None."""
    if tokens[-1] == "\0degree\0" and (tokens.count(tokens[-1]) > 1 or any(t[1:] in FUNCTIONS for t in tokens)):
        return None  # part of a formula: \sin 30^\circ
    sign = tokens[0] in "+-"
    if len(tokens) > 1 + sign and tokens[sign].strip("\0 .").lower() in CURRENCIES:
        rest = tokens[:sign] + tokens[sign + 1 :]
        return quantity(rest) or unit_node(rest, tokens[sign])
    depths = depth_of(tokens)
    if len(tokens) > 2 and tokens[-2] == "/" and tokens[-1][0] == "\0":  # 18/day, of dollars
        tokens = [*tokens[:-2], f"\0per {tokens[-1][1:]}"]
        depths = depth_of(tokens)
    start = next((i for i, t in enumerate(tokens) if i and depths[i] == 0 and (t[0] == "\0" or t == "%")), 0)
    rest = tokens[start:]
    if not start or not all(
        t[0] == "\0" or t in UNIT_SIGNS or (t in LETTER_UNITS and rest[i - 1] in "/*") for i, t in enumerate(rest)
    ):
        return None
    return unit_node(tokens[:start], " ".join(rest))


def unit_node(tokens: list[str], name: str) -> Node:
    node = build(tokens)
    value = node.form.rational if node.form else None
    factor, tag = unit(name, singular=value is not None and abs(value) <= 1)
    if node.kind in ("unit", "words") or (factor > 1 and not node.form):
        raise Malformed("two units")
    if factor > 1:
        node = Node("form", form=Form(("n", Fraction(factor))).times(node.form))
    return Node("unit", (node,), tag) if tag else node


def named(tokens: list[str]) -> Node:
    r"""The left side of an equation; where it is only what a value is called (P(X=3), |A \cup B|), its words."""
    try:
        node = build(tokens)
    except (Malformed, Unsupported):
        letters = any(t.isalpha() or t[0] == "\0" or t[1:] in GREEK for t in tokens)
        signs = all(t in NAME_SIGNS or t[0] != "\\" or t[1:] in FUNCTIONS | GREEK for t in tokens)
        if (
            letters
            and signs
            and not any(d == 0 and t[0].isdigit() for d, t in zip(depth_of(tokens), tokens, strict=True))
        ):
            return Node("words", tag=" ".join(tokens).replace("\0", "").casefold())
        raise
    call = "".join(tokens)
    if (
        node.form
        and re.fullmatch(r"(?:[a-zA-Z]|\\[a-zA-Z]+)(?:\^\{-1\}|')?\([^()]*\)", call)
        and call[1:] not in FUNCTIONS
    ):
        return Node("form", tag=call, form=node.form)  # f(x), V(t), f^{-1}(x)
    return node


# in the order of their precedence
READINGS = (
    grouped,
    separated,
    united,
    related,
    rounded,
    with_either_sign,
    complement,
    bracketed,
    matrix,
    only_words,
    signed_brackets,
    after_a_lead,
    with_unit,
    residue,
    ratio,
    constant,
)
