r"""Answers that are more than one formula: tuples, intervals, sets, lists, matrices, equations, units, words.

`read` splits an answer into a tree of Nodes with closed forms (rewards._algebra.Form) at its leaves; `same` compares two
trees part by part. Order and brackets matter, except in sets and lists. `same` returns None where a leaf can't be decided.

What is taken as equal, where people may differ:
- 50% is 1/2, and 50 where only one side has the sign; likewise 180 degrees and pi. 5 and 500 never are.
- a unit on one side only is dropped; two different units are wrong, and nothing is converted.
- x=5 is 5, and 2+2=4 is 4, but 3=4 is neither; an equation may be scaled: y=2x+1 is 2x-y+1=0.
- x>3 is (3,\infty); {1,2} and (1,2) may lose their brackets but not change them; 4:6 is 2:3, unless it looks like a time.
- 1011_2 needs its base: 11 and 1011 are not it.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from rewards import _algebra
from rewards._algebra import Form
from rewards._latex import CLOSE, OPEN, THOUSANDS, Malformed, Parser, TooCostly, Unsupported, normalize, tokenize

MAX_PARTS = 150
RELATIONS = {"=": "=", "<": "<", ">": ">", r"\le": "<=", r"\ge": ">=", r"\ne": "!=", r"\in": "in", r"\equiv": "="}
FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "!=": "!="}
MATRICES = {"pmatrix", "bmatrix", "matrix", "Bmatrix", "smallmatrix", "array"}
NO_UNIT = {
    "or", "and", "not", "mod", "about", "approximately", "approx", "if", "when", "where", "is", "but", "maybe",
    "otherwise", "none", "all", "no", "than", "base",
}  # fmt: skip
UNIT_NAMES = {
    alias: name
    for name, aliases in {
        "m": "meter metre", "cm": "centimeter centimetre", "mm": "millimeter millimetre", "km": "kilometer kilometre",
        "in": "inch inche", "ft": "foot feet", "mi": "mile", "yd": "yard", "g": "gram", "kg": "kilogram", "mg": "milligram",
        "lb": "lbs pound-mass", "oz": "ounce", "l": "liter litre", "ml": "milliliter millilitre", "s": "sec second",
        "min": "mins minute", "h": "hr hrs hour", "mi/h": "mph", "km/h": "kph kmh", "degree": "deg", "%": "percent",
        "dollar": "usd buck", "cent": "cents", "unit": "units", "foot": "",
    }.items()
    for alias in aliases.split()
}  # fmt: skip
SCALES = {"%": Form(("n", Fraction(1, 100))), "degree": Form(("/", ("v", r"\pi"), ("n", Fraction(180))))}
INFINITY = {(r"\infty",): "+", ("+", r"\infty"): "+", ("-", r"\infty"): "-"}
WORDS = re.compile(r"[\0(]*[^\W\d_](?:[^\W\d_]|[\s\0.,;:'()/&-])*")
CHOICE = re.compile(r"\0?\s*(?:option |choice )?(?:\(\s*([A-Za-z])\s*\)|([A-Za-z])\)?)[.:]?\s*\0?", re.I)
BASED = re.compile(
    r"(-?)((?=[A-F]*[0-9])[0-9A-F]+|(?=[a-f]*[0-9])[0-9a-f]+)\s*_\s*(?:([0-9])|\{\s*\0?\s*([0-9]{1,2})\s*\0?\s*\})"
)
SEPARATORS = (",", ";", "\0or\0", "\0and\0")


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
    based = BASED.fullmatch(s)
    if based and (10 if not based[2].isdigit() else 1) < (base := int(based[3] or based[4])) <= 36:
        return Node("based", tag=f"{based[1]}{based[2].lstrip('0').upper() or '0'} base {base}")
    if (
        WORDS.fullmatch(s)
        and ("\0" in s or re.search("[a-zA-Z]{4}", s))
        and s.replace("\0", "").strip() not in ("or", "and")
    ):
        words = " ".join(s.replace("\0", " ").casefold().split())
        if s.count("\0") == 2 or not re.search(r"\0\s*(?:or|and)\s*\0", s):
            return Node("words", tag=words.strip(" .,"))
    if "(" not in s and "[" not in s and r"\{" not in s:  # inside brackets 1,234 is two numbers
        s = THOUSANDS.sub(lambda m: m[0].replace(",", ""), s)
    node = build(tokenize(s))
    budget = _algebra.Exact()
    for form in forms(node):
        form.exact = budget
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
        return Node("list", tuple(nodes), "and" if "\0and\0" in marks else "")
    parts, marks = split(tokens, depths, (r"\cup",))
    if marks:
        return Node("union", tuple(map(build, parts)))
    parts, marks = split(tokens, depths, RELATIONS)
    if marks:
        if marks == [r"\in"] and label(build(parts[0])):
            return build(parts[1])
        if r"\in" in marks:
            raise Unsupported("a relation of relations")
        return Node("relation", tuple(map(build, parts)), " ".join(RELATIONS[m] for m in marks))
    if whole and tokens[0] in ("(", "[", r"\{", r"\langle") and not (tokens[0] != r"\{" and depths[0] is None):
        return bracketed(tokens)
    if r"\begin" in tokens:
        return matrix(tokens)
    if (unit := with_unit(tokens)) is not None:
        return unit
    if r"\pmod" in tokens or r"\bmod" in tokens:
        at = next(i for i, t in enumerate(tokens) if t in (r"\pmod", r"\bmod"))
        modulus = build(tokens[at + 1 :])
        return Node("residue", (build(tokens[:at]), modulus))
    parts, marks = split(tokens, depths, (":",))
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


def forms(node: Node):
    """Every closed form in a tree."""
    if node.form:
        yield node.form
    for part in node.parts:
        yield from forms(part)


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
    sign = tokens[0] in "+-"
    if len(tokens) > 1 + sign and tokens[sign] in ("\0dollar\0", "\0euro\0", "\0pound\0"):
        return unit_node(tokens[:sign] + tokens[sign + 1 :], tokens[sign])
    end = len(tokens)
    while end > 0:
        if tokens[end - 1] == "%" or tokens[end - 1][0] == "\0":
            end -= 1
        elif end > 2 and tokens[end - 1] in ("2", "3") and tokens[end - 2] == "^" and tokens[end - 3][0] == "\0":
            end -= 3
        elif tokens[end - 3 : end] in (["{", "2", "}"], ["{", "3", "}"]) and end > 4 and tokens[end - 5][0] == "\0":
            end -= 5
        elif end < len(tokens) and end > 1 and tokens[end - 1] in "/*" and tokens[end - 2][0] == "\0":
            end -= 1
        else:
            break
    return unit_node(tokens[:end], " ".join(tokens[end:])) if 0 < end < len(tokens) else None


def unit_node(tokens: list[str], name: str) -> Node:
    words = re.findall(r"[a-z%°/]+|[23]", name.lower().replace(".", ""))
    if NO_UNIT & set(words) or re.search("[^a-z%°/23^{}\0 .()*-]", name.lower()):
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
    if node.kind in ("unit", "words"):
        raise Malformed("two units")
    return Node("unit", (node,), "".join(plain + [p for p in power if p]))


def same(g: Node, a: Node) -> bool | None:
    """Whether answer `a` equals gold `g`; None when a part can't be decided."""
    if "unit" in (g.kind, a.kind):
        return same_quantity(g, a)
    if "choice" in (g.kind, a.kind):
        return same_choice(g, a)
    if "words" in (g.kind, a.kind):
        return {g.kind, a.kind} <= {"words", "form"} and g.tag == a.tag
    if "based" in (g.kind, a.kind):
        return g.kind == a.kind and g.tag == a.tag
    if {"relation", "union"} & (kinds(g) | kinds(a)) and None not in (sets := (reals(g), reals(a))):
        return same_reals(*sets)
    if "relation" in (g.kind, a.kind):
        return same_relation(g, a)
    if "infinity" in (g.kind, a.kind) or "residue" in (g.kind, a.kind) or "matrix" in (g.kind, a.kind):
        return g.kind == a.kind and g.tag == a.tag and all_same(g.parts, a.parts)
    if "ratio" in (g.kind, a.kind):
        return same_ratio(g, a)
    if g.kind == a.kind == "form":
        return _algebra.equal(g.form, a.form)
    if g.kind == a.kind == "union":
        return any_order(g.parts, a.parts)
    if g.kind in ("seq", "list") and a.kind in ("seq", "list"):
        return same_parts(g, a)
    if g.kind in ("seq", "list") or a.kind in ("seq", "list"):
        group, one = (g, a) if g.kind in ("seq", "list") else (a, g)
        if len(group.parts) == 1 and group.tag in (r"\{\}", "") and group is g:
            return same(group.parts[0], one)  # gold {5}, answer 5
    return False


def kinds(node: Node) -> set[str]:
    return {node.kind} | {part.kind for part in node.parts}


def every(verdicts) -> bool | None:
    """False when one is, else None when one is, else True."""
    unknown = False
    for verdict in verdicts:
        if verdict is False:
            return False
        unknown |= verdict is None
    return None if unknown else True


def all_same(g: tuple, a: tuple) -> bool | None:
    return len(g) == len(a) and every(same(x, y) for x, y in zip(g, a, strict=True))


def any_order(g: tuple, a: tuple) -> bool | None:
    """Whether the parts match one to one in some order."""
    if len(g) != len(a):
        return False
    left, unknown = list(a), False
    for part in g:
        verdicts = [same(part, other) for other in left]
        if True in verdicts:
            left.pop(verdicts.index(True))
        elif None in verdicts:
            unknown = True
        else:
            return False
    return None if unknown else True


def same_quantity(g: Node, a: Node) -> bool | None:
    """Values with units: percent and degree are factors as well, which either side may leave out."""
    (left, unit), (right, other) = ((n.parts[0], n.tag) if n.kind == "unit" else (n, "") for n in (g, a))
    if unit and other:
        return unit == other and same(left, right)
    verdict = same(left, right)
    if (unit or other) in SCALES and verdict is not True and left.form and right.form:
        (scaled, bare), scale = ((left, right) if unit else (right, left)), SCALES[unit or other]
        return (
            False
            if False is (v := _algebra.equal(scaled.form.times(scale), bare.form)) and verdict is False
            else v or None
        )
    return verdict


def same_choice(g: Node, a: Node) -> bool | None:
    letters = []
    for node in (g, a):
        tree = node.form.tree if node.form else ()
        letter = node.tag if node.kind == "choice" else tree[1] if tree[:1] == ("v",) else ""
        letters.append(letter.upper() if g.tag.isupper() else letter)
    return bool(letters[0]) and letters[0] == letters[1]


def same_ratio(g: Node, a: Node) -> bool | None:
    if "time" in (g.tag, a.tag):
        return g.kind == a.kind and all_same(g.parts, a.parts)
    if g.kind == a.kind:
        if len(g.parts) != len(a.parts) or any(p.form is None for p in g.parts + a.parts):
            return False
        pairs = list(zip(g.parts, a.parts, strict=True))
        (x, y), rest = pairs[0], pairs[1:]
        return every(_algebra.equal(x.form.times(q.form), y.form.times(p.form)) for p, q in rest)
    ratio, value = (g, a) if g.kind == "ratio" else (a, g)
    if len(ratio.parts) != 2 or not (value.form and ratio.parts[0].form and ratio.parts[1].form):
        return False
    return _algebra.equal(ratio.parts[0].form.over(ratio.parts[1].form), value.form)


def same_parts(g: Node, a: Node) -> bool | None:
    """Tuples, intervals and points in order; sets and lists in any; brackets may be left out but not changed."""
    if g.tag == a.tag == r"\{\}":
        covered = every(some(same(p, q) for q in a.parts) for p in g.parts)
        return every([covered, every(some(same(p, q) for p in g.parts) for q in a.parts)])
    tags = {n.tag for n in (g, a) if n.kind == "seq"}
    if len(tags) > 1 or (tags and tags.isdisjoint({"()", r"\{\}"}) and g.kind != a.kind):
        return False
    labels = [[label(p.parts[0]) if p.kind == "relation" else None for p in n.parts] for n in (g, a)]
    named = [len(set(names)) > 1 and None not in names for names in labels]
    if (tags and tags != {r"\{\}"}) or named[0] != named[1]:
        return all_same(g.parts, a.parts)
    return any_order(g.parts, a.parts)


def some(verdicts) -> bool | None:
    verdicts = list(verdicts)
    return True if True in verdicts else None if None in verdicts else False


def label(node: Node) -> str | None:
    """What a value is called in `x = 5`, `f(x) = 5`, `\text{Area} = 5`; None when it is more than a name."""
    if node.kind in ("words", "choice"):
        return node.tag
    if node.kind == "seq":
        names = [label(p) for p in node.parts]
        return None if None in names else ",".join(names)
    tree = node.form.tree if node.form else ()
    if tree[:1] == ("v",) and tree[1] not in (r"\pi", "e", "i"):
        return tree[1]
    if (
        tree[:1] == ("*",)
        and len(tree[1]) == 2
        and tree[1][0] in (("v", "f"), ("v", "g"), ("v", "h"), ("v", "p"), ("v", "P"))
    ):
        return f"{tree[1][0][1]}()"
    return None


def same_relation(g: Node, a: Node) -> bool | None:
    """Equations against equations or values; inequalities that are no sets of one variable."""
    if g.kind == a.kind == "relation":
        if g.tag == a.tag == "=":
            return same_equation(g, a)
        if set(g.tag.split()) != {"="} and set(a.tag.split()) != {"="}:
            return same_inequality(g, a)
    relation, value = (g, a) if g.kind == "relation" else (a, g)
    if set(relation.tag.split()) != {"="}:
        return False
    members = relation.parts[1:] if label(relation.parts[0]) else relation.parts
    if value.kind == "relation":
        return every(same(value.parts[-1], m) for m in members)
    if label(relation.parts[0]) is None and len(relation.parts) > 1 and relation is g:
        return False  # 2x+3y=6 has no value
    return every(same(value, m) for m in members)  # 2+2=4 is 4; 3=4 is nothing


def same_equation(g: Node, a: Node) -> bool | None:
    names = [label(n.parts[0]) for n in (g, a)]
    if None not in names and (names[0] == names[1] or names[0].endswith("()") != names[1].endswith("()")):
        verdict = same(g.parts[1], a.parts[1])
        if verdict is not False or not (g.parts[1].form and a.parts[1].form):
            return verdict
    sides = [difference(n) for n in (g, a)]
    if None in sides:
        return every([same(g.parts[0], a.parts[0]), same(g.parts[1], a.parts[1])])
    (n, d), (m, e) = sides
    if _algebra.proportional(n, m):
        return True
    polynomial = d.keys() == e.keys() == {()} and not any(map(_algebra.opaque, (n, m)))
    return False if polynomial and all(k >= 0 for s in (n, m) for t in s for _, k in t) else None


def difference(relation: Node) -> tuple[dict, dict] | None:
    """Left minus right side of a two-sided relation, as an exact quotient."""
    left, right = (p.form for p in relation.parts)
    if left is None or right is None:
        return None
    quotient = left.minus(right).quotient
    return None if isinstance(quotient, Exception) else quotient


def same_inequality(g: Node, a: Node) -> bool | None:
    if len(g.parts) != 2 or len(a.parts) != 2:
        return all_same(g.parts, a.parts) if g.tag == a.tag else None
    sides = [difference(n) for n in (g, a)]
    if None in sides or any(d.keys() != {()} for _, d in sides):
        return None
    ratio = _algebra.proportional(sides[0][0], sides[1][0])
    return (a.tag if ratio > 0 else FLIPPED[a.tag]) == g.tag if ratio else None


# --- sets of real numbers: {variable or None: [(low, high, brackets)]}

MINUS, PLUS = Node("infinity", tag="-"), Node("infinity", tag="+")


def reals(node: Node) -> tuple[str | None, list] | None:
    """The intervals of a node that can be read as a set of real numbers, and its variable; else None."""
    if node.kind == "seq" and len(node.parts) == 2 and node.tag[0] in "([" and node.tag[-1] in ")]":
        return None, [(*node.parts, node.tag)]
    if node.kind == "relation":
        return half_lines(node)
    if node.kind == "union" or (node.kind == "list" and kinds(node) == {"list", "relation"}):
        found = [reals(part) for part in node.parts]
        names = {f[0] for f in found if f}
        if None in found or len(names) > 1:
            return None
        if node.tag == "and":  # x > 1 and x < 3
            return (names.pop(), [meet(found)]) if len(found) == 2 and meet(found) else None
        return names.pop(), [interval for f in found for interval in f[1]]
    return None


def meet(found: list) -> tuple | None:
    """The interval between a lower and an upper bound."""
    first, second = (f[1] for f in found)
    if len(first) == len(second) == 1:
        for (low, x, left), (y, high, right) in ((first[0], second[0]), (second[0], first[0])):
            if x is PLUS and y is MINUS:
                return low, high, left[0] + right[1]
    return None


def half_lines(relation: Node) -> tuple[str, list] | None:
    """x > 3, 2x+1 <= 7, 1 < x <= 2 and x != 3 as intervals."""
    operators = relation.tag.split()
    if any(op not in FLIPPED for op in operators):
        return None
    if len(operators) == 2 and (name := label(relation.parts[1])) and "!=" not in operators:
        low, _, high = relation.parts
        if operators[0] in (">", ">=") and operators[1] in (">", ">="):
            low, high, operators = high, low, [FLIPPED[op] for op in reversed(operators)]
        if not all(op in ("<", "<=") for op in operators):
            return None
        return name, [(low, high, ("[" if operators[0] == "<=" else "(") + ("]" if operators[1] == "<=" else ")"))]
    quotient = difference(relation) if len(operators) == 1 else None
    if quotient is None or quotient[1].keys() != {()}:
        return None
    names = _algebra.variables(quotient[0])
    slope = [c for m, c in quotient[0].items() if m and m[0][0] in names]
    if len(names) != 1 or len(slope) != 1 or quotient[0].get(((name := names.pop(), 1),)) != slope[0]:
        return None
    rest = {m: -c / slope[0] for m, c in quotient[0].items() if m != ((name, 1),)}
    end = Node("form", form=Form(("unknown",), lambda _: (rest, {(): Fraction(1)})))
    op = operators[0] if slope[0] > 0 else FLIPPED[operators[0]]
    below, above = (MINUS, end, "(]" if op == "<=" else "()"), (end, PLUS, "[)" if op == ">=" else "()")
    return name, [below, above] if op == "!=" else [below] if op[0] == "<" else [above]


def same_reals(g: tuple, a: tuple) -> bool | None:
    if g[0] and a[0] and g[0] != a[0]:
        return False
    merged = [merge(intervals) for _, intervals in (g, a)]
    if None not in merged:
        return merged[0] == merged[1]
    left = [Node("seq", i[:2], i[2]) for i in g[1]]
    right = [Node("seq", i[:2], i[2]) for i in a[1]]
    verdict = any_order(tuple(left), tuple(right))
    return verdict if verdict or len(left) == len(right) == 1 else None


def merge(intervals: list) -> list | None:
    """Intervals with rational ends, sorted and joined where they overlap; None when an end is not rational."""
    found = []
    for low, high, brackets in intervals:
        ends = []
        for end, bracket, outward in ((low, brackets[0], 1), (high, brackets[-1], -1)):
            value = end.form.rational if end.form else None
            if value is None and end.kind != "infinity":
                return None
            key = (
                (-1 if end.tag == "-" else 1, 0, 0) if value is None else (0, value, 0 if bracket in "[]" else outward)
            )
            ends.append(key)
        if ends[0] <= ends[1]:
            found.append(ends)
    found.sort()
    joined: list = []
    for low, high in found:
        if joined and touches(joined[-1][1], low):
            joined[-1][1] = max(joined[-1][1], high)
        else:
            joined.append([low, high])
    return joined


def touches(high: tuple, low: tuple) -> bool:
    """Whether nothing lies between one interval's upper end and the next one's lower end."""
    return low <= high or (low[:2] == high[:2] and not (high[2] and low[2]))
