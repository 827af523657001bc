r"""Answers that are more than one formula: tuples, intervals, sets, lists, matrices, equations, units, words.

`read` splits an answer into a tree of Nodes with closed forms (rewards._math.algebra.Form) at its leaves.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from rewards._math.latex import CLOSE, FUNCTIONS, OPEN, Malformed, Parser, TooCostly, Unsupported, tokenize
from rewards._math.numeric import Form, near
from rewards._math.spelling import THOUSANDS, normalize
from rewards._math.spelling import THOUSANDS, normalize

MAX_PARTS = 150
RELATIONS = {"=": "=", "<": "<", ">": ">", r"\le": "<=", r"\ge": ">=", r"\ne": "!=", r"\in": "in", r"\equiv": "="}
MATRICES = {"pmatrix", "bmatrix", "matrix", "Bmatrix", "smallmatrix", "array"}
NO_UNIT = {
    "or", "and", "not", "mod", "about", "approximately", "approx", "if", "when", "where", "is", "but", "maybe",
    "otherwise", "none", "all", "no", "than", "base", "least", "most", "plus", "minus", "times", "negative", "over",
    "divided", "power", "root", "squared", "cubed", "factorial", "pi", "wrong", "incorrect", "false", "hundred",
    "thousand", "million", "billion", "trillion", "dozen", "half", "halves", "third", "thirds", "quarters", "fourths",
    "fifths", "sixths", "sevenths", "eighths", "ninths", "tenths", "hundredths", "thousandths", "zero", "one", "two",
    "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "twenty",
}  # fmt: skip
MULTIPLES = {"dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
LETTER_UNITS = set("mgshlnjwvacfk")  # of one letter, in lower case; others are variables: 5x, 5i, 5e
UNIT_NAMES = {
    alias: name
    for name, aliases in {
        "m": "meter metre", "cm": "centimeter centimetre", "mm": "millimeter millimetre", "km": "kilometer kilometre",
        "in": "inch inche", "ft": "foot feet", "mi": "mile", "yd": "yard", "g": "gram", "kg": "kilogram", "mg": "milligram",
        "lb": "lbs pound", "oz": "ounce", "l": "liter litre", "ml": "milliliter millilitre", "s": "sec second",
        "min": "mins minute", "h": "hr hrs hour", "mi/h": "mph", "km/h": "kph kmh", "degree": "deg", "%": "percent",
        "dollar": "usd",
    }.items()
    for alias in aliases.split()
}  # fmt: skip
INFINITY = {(r"\infty",): "+", ("+", r"\infty"): "+", ("-", r"\infty"): "-"}
WORDS = re.compile(r"[\0(\s]*[^\W\d_](?:[^\W\d_]|[\s\0.,;:'()/&-])*")
CHOICE = re.compile(r"\0?\s*(?:option |choice )?(?:\(\s*([A-Za-z])\s*\)|([A-Za-z])\)?)[.:]?\s*\0?", re.I)
NUMERALS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10}
BASED = re.compile(
    r"(-?)[({\0]?((?=[A-F]*[0-9])[0-9A-F]+|(?=[a-f]*[0-9])[0-9a-f]+)[)}\0]?\s*_\s*"
    r"(?:([0-9])|\{[\0\s]*(?:([0-9]{1,2})|(" + "|".join(NUMERALS) + r"))[\0\s]*\})"
)
SEPARATORS = (",", ";", "\0or\0", "\0and\0")

NAME_SIGNS = {"'", r"\angle", r"\overline", r"\hat", r"\cap", r"\cup", r"\triangle", r"\prime", "{", "}", "(", ")", "|"}


@dataclass(frozen=True, eq=False)
class Node:
    """kind: form, infinity, words, choice, seq, list, union, matrix, relation, ratio, based, unit, residue; tag: what the
    kind needs besides its parts, such as brackets, operators, rows or the unit's name."""

    kind: str
    parts: tuple = ()
    tag: str = ""
    form: Form | None = None


@lru_cache(maxsize=8192)
def read(answer: str) -> Node:
    """The tree of an answer. Raises Malformed, Unsupported or TooCostly."""
    s = normalize(answer)
    if not s:
        raise Malformed("nothing there")
    choice = CHOICE.fullmatch(s)
    if choice and ("\0" in s or "(" in s or (choice[1] or choice[2]) in "ABCDEFGH"):
        return Node("choice", tag=choice[1] or choice[2])
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
        words = " ".join(s.replace("\0", " ").casefold().split()).strip(" .,")
        return Node("words", tag=re.sub("^(?:an?|the) ", "", words))
    if "(" not in s and "[" not in s and r"\{" not in s:  # inside brackets 1,234 is two numbers
        s = THOUSANDS.sub(lambda m: m[0].replace(",", ""), s)
    node = build(tokenize(s))
    if s.isalpha() and node.form:  # "no" may be a word or a product: the other side tells
        node = Node("form", tag=s.casefold(), form=node.form)
    return node


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
        if len(nodes) > MAX_PARTS:
            raise TooCostly(f"a list of {len(nodes)} parts")
        return Node("list", tuple(nodes), "and" if "\0and\0" in marks else "or" if "\0or\0" in marks else "")
    parts, marks = split(tokens, depths, (r"\cup",))
    if marks:
        return Node("union", tuple(map(build, parts)))
    parts, marks = split(tokens, depths, RELATIONS)
    if marks:
        if marks == [r"\in"] and label(build(parts[0])):
            return build(parts[1])
        if r"\in" in marks:
            raise Unsupported("a relation of relations")
        if (
            marks == ["="]
            and NAME_SIGNS - set("{}()|") & set(parts[0])
            and all(t.isalpha() or t in NAME_SIGNS for t in parts[0])
            and any(map(str.isalpha, parts[0]))
        ):
            return Node("relation", (Node("words", tag=" ".join(parts[0])), build(parts[1])), "=")
        return Node("relation", tuple(map(build, parts)), " ".join(RELATIONS[m] for m in marks))
    parts, marks = split(tokens, depths, (r"\approx",))
    if marks:  # 12\pi \approx 37.7 is 12\pi, where that is its rounding
        node, decimal = build(parts[0]), "".join(parts[1])
        fits = len(parts) == 2 and node.form and re.fullmatch(r"[0-9]+\.([0-9]{1,15})", decimal)
        if fits and near(node.form, Fraction(decimal), Fraction(1, 10 ** len(fits[1]))):
            return node
        raise Malformed("no rounding of what stands before it")
    if whole and tokens[0] in ("(", "[", r"\{", r"\langle") and not (tokens[0] != r"\{" and depths[0] is None):
        return bracketed(tokens)
    if r"\begin" in tokens:
        return matrix(tokens)
    if all(token[0] == "\0" for token in tokens):
        return Node("words", tag=" ".join("".join(tokens).replace("\0", " ").casefold().split()))
    if (unit := with_unit(tokens)) is not None:
        return unit
    if r"\pmod" in tokens or r"\bmod" in tokens:
        at = next(i for i, t in enumerate(tokens) if t in (r"\pmod", r"\bmod"))
        modulus = build(tokens[at + 1 :])
        return Node("residue", (build(tokens[:at]), modulus))
    parts, marks = split(tokens, depths, (":", "\0to\0"))
    if marks:
        time = all(len(p) == 1 and len(p[0]) == 2 for p in parts[1:])
        return Node("ratio", tuple(map(build, parts)), "time" if time else "")
    if r"\pm" in tokens or r"\mp" in tokens:
        if tokens.count(r"\pm") + tokens.count(r"\mp") > 1:
            raise Unsupported("several signs")
        return Node("list", tuple(build([sign if t in (r"\pm", r"\mp") else t for t in tokens]) for sign in "+-"))
    if tuple(tokens) in INFINITY:
        return Node("infinity", tag=INFINITY[tuple(tokens)])
    if tokens == [r"\reals"]:
        return Node("seq", (Node("infinity", tag="-"), Node("infinity", tag="+")), "()")
    if tokens == [r"\emptyset"]:
        return Node("seq", (), r"\{\}")
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
    brackets = tokens[0] + tokens[-1]
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
    if len(tokens) > 1 + sign and tokens[sign].lower() in ("\0dollar\0", "\0usd\0", "\0euro\0", "\0gbp\0"):
        return unit_node(tokens[:sign] + tokens[sign + 1 :], tokens[sign])
    end = len(tokens)
    while end > 0:
        if tokens[end - 1] == "%" or tokens[end - 1][0] == "\0":
            end -= 1
        elif end > 2 and tokens[end - 1] in ("2", "3") and tokens[end - 2] == "^" and tokens[end - 3][0] == "\0":
            end -= 3
        elif tokens[end - 3 : end] in (["{", "2", "}"], ["{", "3", "}"]) and end > 4 and tokens[end - 5][0] == "\0":
            end -= 5
        elif end == len(tokens) > 3 and tokens[-1] in ("h", "s") and tokens[-2] == "/" and tokens[-3][0] == "\0":
            end -= 3
        elif end < len(tokens) and end > 1 and tokens[end - 1] in "/*" and tokens[end - 2][0] == "\0":
            end -= 1
        else:
            break
    return unit_node(tokens[:end], " ".join(tokens[end:])) if 0 < end < len(tokens) else None


def unit_node(tokens: list[str], name: str) -> Node:
    words = re.findall("[a-z%]+|[/23]", name.lower().replace(".", "").replace("per cent", "percent"))
    factor = 1
    while words and words[0] in MULTIPLES:  # 5 million dollars
        factor *= MULTIPLES[words.pop(0)]
    letters = {w for w in words if len(w) == 1 and w.isalpha()}
    if (
        NO_UNIT & set(words)
        or letters - LETTER_UNITS
        or name.count("%") > 1
        or re.search("[^a-z%/23^{}\0 .()*-]", name.lower())
    ):
        raise Malformed(f"{name.replace(chr(0), '')!r} is no unit")
    power = [{"square": "2", "sq": "2", "cubic": "3", "cu": "3"}.get(w) for w in words]
    plain = [
        "/"
        if w == "per"
        else UNIT_NAMES.get(w, UNIT_NAMES.get(w.removesuffix("s"), w.removesuffix("s") if len(w) > 2 else w))
        for w, p in zip(words, power, strict=True)
        if not p
    ]
    node = build(tokens)
    if node.kind in ("unit", "words") or (factor > 1 and not node.form):
        raise Malformed("two units")
    if factor > 1:
        node = Node("form", form=Form(("n", Fraction(factor))).times(node.form))
    if not words and factor > 1:
        return node
    return Node("unit", (node,), "".join(plain + [p for p in power if p]))


def kinds(node: Node) -> set[str]:
    return {node.kind} | {part.kind for part in node.parts}


def label(node: Node) -> str | None:
    """What a value is called in `x = 5`, `f(x) = 5`, `\text{Area} = 5`; None when it is more than a name."""
    if node.kind in ("words", "choice"):
        return node.tag
    if node.kind == "seq":
        names = [label(p) for p in node.parts]
        return None if None in names or not names else ",".join(names)
    tree = node.form.tree if node.form else ()
    if tree[:1] == ("v",) and tree[1] not in (r"\pi", "e", "i"):
        return tree[1]
    if (
        tree[:1] == ("*",)
        and len(tree[1]) == 2
        and tree[1][0] in (("v", "f"), ("v", "g"), ("v", "h"), ("v", "p"), ("v", "P"))
    ):
        return f"{tree[1][0][1]}({tree[1][1]})"
    return None
