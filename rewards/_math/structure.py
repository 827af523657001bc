r"""Answers that are more than one formula: tuples, intervals, sets, lists, matrices, equations, units, words.

`read` splits an answer into a tree of Nodes with closed forms (rewards._math.algebra.Form) at its leaves.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from rewards._math.latex import CLOSE, FUNCTIONS, GREEK, OPEN, Malformed, Parser, TooCostly, Unsupported, tokenize
from rewards._math.numeric import Form
from rewards._math.rationals import children
from rewards._math.spelling import THOUSANDS, normalize
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


@dataclass(frozen=True, eq=False)
class Node:
    """kind: form, infinity, words, choice, seq, list, union, matrix, relation, ratio, based, unit, residue; tag: what the
    kind needs besides its parts, such as brackets, operators, rows or the unit's name."""

    kind: str
    parts: tuple = ()
    tag: str = ""
    form: Form | None = None


REALS = Node("seq", (Node("infinity", tag="-"), Node("infinity", tag="+")), "()")
EMPTY_SET = Node("seq", (), r"\{\}")


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
        raise Malformed("what goes on without an end")
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


def build(tokens: list[str]) -> Node:
    if not tokens:
        raise Malformed("a part is missing")
    depths = depth_of(tokens)
    whole = tokens[0] in OPEN and depths[:-1].count(0) == 0  # the first bracket closes at the end
    if whole and tokens[0] == "{":
        return build(tokens[1:-1])
    parts, marks = split(tokens, depths, SEPARATORS)
    if marks:
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
    parts, marks = split(tokens, depths, (r"\cup",))
    relation = split(tokens, depths, RELATIONS)
    if marks and set(relation[1]) != {"="}:
        return Node("union", tuple(map(build, parts)))
    parts, marks = relation
    if marks:
        if marks == [r"\in"] and label(build(parts[0])):
            return build(parts[1])
        if r"\in" in marks:
            raise Unsupported("a relation of relations")
        left = [named(part) for part in parts[:-1]] if set(marks) == {"="} else [build(part) for part in parts[:-1]]
        return Node("relation", (*left, build(parts[-1])), " ".join(RELATIONS[m] for m in marks))
    parts, marks = split(tokens, depths, (r"\approx",))
    if marks:
        if not parts[0] or len(parts) > 2:
            return build(parts[-1])
        return Node("rounding", (named(parts[0]), build(parts[1])), "".join(parts[1]))
    signs = [t for t in tokens if t in (r"\pm", r"\mp")]
    if len(signs) > 1:
        raise Unsupported("several signs")
    if signs and not (whole and tokens[0] == r"\{"):
        return Node("list", tuple(build([way if t in signs else t for t in tokens]) for way in "+-"))
    parts, marks = split(tokens, depths, (r"\setminus",))
    if marks and parts[0] == [r"\reals"] and len(parts) == 2:
        return Node("complement", (build(parts[1]),))
    if whole and tokens[0] in ("(", "[", r"\{", r"\langle") and not (tokens[0] != r"\{" and depths[0] is None):
        return bracketed(tokens)
    if r"\begin" in tokens:
        return matrix(tokens)
    if all(token[0] == "\0" for token in tokens):
        return in_words("".join(tokens))
    if tokens[0] in "+-" and tokens[1:2] == ["("] and depths[1:-1].count(0) == 0 and "," in tokens:
        node = build(tokens[1:])
        if tokens[0] == "-":
            node = Node(node.kind, tuple(negative(part) for part in node.parts), node.tag)
        return node
    if tokens[0][0] == "\0" and tokens[0].strip("\0 .").lower() not in CURRENCIES and leads(tokens[0]):
        start = next((i for i, t in enumerate(tokens) if t[0] != "\0" and t not in (":", "-", ",", ".")), 0)
        if all(leads(t) for t in tokens[1:start] if t[0] == "\0") and tokens[start] not in ("+", "*", "/", "^", "="):
            return build(tokens[start - (tokens[start - 1] == "-") :])  # The value is 5; Ann: 5
    if (value := with_unit(tokens)) is not None:
        return value
    if r"\pmod" in tokens or r"\bmod" in tokens:
        at = next(i for i, t in enumerate(tokens) if t in (r"\pmod", r"\bmod"))
        modulus = build(tokens[at + 1 :])
        return Node("residue", (build(tokens[:at]), modulus))
    parts, marks = split(tokens, depths, (":", "\0to\0"))
    if marks:
        time = all(len(p) == 1 and len(p[0]) == 2 for p in parts[1:])
        return Node("ratio", tuple(map(build, parts)), "time" if time else "")
    if tuple(tokens) in INFINITY:
        return Node("infinity", tag=INFINITY[tuple(tokens)])
    if tokens == [r"\reals"]:
        return REALS
    if tokens == [r"\emptyset"]:
        return EMPTY_SET
    return Node("form", form=Form(Parser(list(tokens)).parse()))


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


def bracketed(tokens: list[str]) -> Node:
    inner = tokens[1:-1]
    brackets = "()" if tokens[0] == r"\langle" else tokens[0] + tokens[-1]
    if tokens[0] == r"\{":
        for bar in ("|", ":"):  # set-builder: {x : x > 3}
            parts, marks = split(inner, depth_of(inner), (bar,))
            if len(marks) == 1 and parts[0][:1] and parts[0][0].isalpha() and parts[0][1:2] in ([], [r"\in"]):
                if parts[0][1:] not in ([], [r"\in", r"\reals"]):
                    raise Unsupported("a set of other numbers")
                return build(parts[1])
    node = build(inner)
    if node.kind == "list" and tokens[0] != "{":
        return Node("seq", node.parts, brackets)
    if tokens[0] == r"\{":
        return Node("seq", (node,), brackets)
    if brackets in ("()", "[]"):
        return node
    raise Malformed(f"{brackets} around one part")


def matrix(tokens: list[str]) -> Node:
    r"""Any matrix environment, also behind a factor: \frac{1}{2}\begin{pmatrix}1\\2\end{pmatrix}."""
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


def with_unit(tokens: list[str]) -> Node | None:
    r"""A value with a unit behind it (5\text{ cm}^2, 50\%) or a currency in front, else None."""
    if tokens[-1] == "\0degree\0" and (tokens.count(tokens[-1]) > 1 or any(t[1:] in FUNCTIONS for t in tokens)):
        return None  # part of a formula: \sin 30^\circ
    sign = tokens[0] in "+-"
    if len(tokens) > 1 + sign and tokens[sign].strip("\0 .").lower() in CURRENCIES:
        rest = tokens[:sign] + tokens[sign + 1 :]
        return with_unit(rest) or unit_node(rest, tokens[sign])
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


def negative(node: Node) -> Node:
    if node.form is None:
        raise Unsupported("the negative of what is no number")
    return Node("form", form=Form(("neg", node.form.tree)))


def kinds(node: Node) -> set[str]:
    return {node.kind} | {part.kind for part in node.parts}


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


def label(node: Node, loose: bool = False) -> str | None:
    r"""What a value is called in `x = 5`, `f(x) = 5`, `AB = 5`, `\text{Area} = 5`; None when it is more than a name.

    loose: any expression without numbers is a name as well, as in `m+n = 12`.
    """
    if node.kind in ("words", "choice"):
        return node.tag
    if node.kind == "seq":
        names = [label(p) for p in node.parts]
        return None if None in names or not names else ",".join(names)
    return node.tag or name(node.form.tree, loose) if node.form else None


def name(tree: tuple, loose: bool) -> str | None:
    if tree[0] == "v" and tree[1] not in (r"\pi", "e", "i"):
        return tree[1]
    if tree[0] == "fn" and name(tree[2], False):
        return f"{tree[1]}({name(tree[2], False)})"  # \sin A
    if tree[0] == "*" and all(t[0] == "v" and t[1].isupper() for t in tree[1]):
        return "".join(t[1] for t in tree[1])  # AB
    return str(tree) if loose and tree[0] in ("+", "*", "/", "neg") and not numbers(tree) else None


def numbers(tree: tuple) -> bool:
    return tree[0] in ("n", "^") or any(map(numbers, children(tree)))
