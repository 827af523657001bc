r"""Are two answers equal? Trees of rewards._math.structure compared part by part.

Order and brackets matter, except in sets and lists. Every comparison returns None where a leaf can't be decided.

What is taken as equal, where people may differ:
- 50% is 1/2, and 50 where only one side has the sign; likewise 180 degrees and pi. 5 and 500 never are.
- a unit on one side only is dropped; two different units are wrong, and nothing is converted.
- x=5 is 5, and 2+2=4 is 4, but 3=4 is neither; an equation may be scaled: y=2x+1 is 2x-y+1=0.
- x>3 is (3,\infty), and x>1, x<3 is (1,3); {1,2} and (1,2) may lose their brackets but not change them.
- 4:6 is 2:3, unless it looks like a time.
- 1011_2 needs its base: 11 and 1011 are not it.
"""

import re
from fractions import Fraction
from itertools import combinations

from rewards._math.numeric import Form, equal, near, proportion
from rewards._math.real_sets import FLIPPED, difference, merge, reals, same_ends
from rewards._math.structure import Node, kinds, label
from rewards._math.words import same_words

SHORT_WORDS = {
    "ii", "iii", "no", "yes", "odd", "red", "one", "two", "six", "ten", "all", "any", "mon", "tue", "wed", "thu",
    "fri", "sat",
}  # fmt: skip
ZERO = Form(("n", Fraction(0)))
SCALES = {"%": Form(("n", Fraction(1, 100))), "degree": Form(("/", ("v", r"\pi"), ("n", Fraction(180))))}


def same(g: Node, a: Node) -> bool | None:
    """Whether answer `a` equals gold `g`; None when a part can't be decided."""
    if g.kind == "rounding":  # 100/3 \approx 33.3: either will do
        return some(same(part, a) for part in g.parts[label(g.parts[0]) is not None :])
    if a.kind == "rounding":
        return rounds(a) and same(g, a.parts[0])
    g, a = aligned(g, a)
    for kind, compare in BEFORE_SETS:
        if kind in (g.kind, a.kind):
            return compare(g, a)
    if {"relation", "union", "complement"} & (kinds(g) | kinds(a)) and "=" not in (g.tag, a.tag):
        sets = reals(g), reals(a)
        if None not in sets:
            return same_reals(*sets)
    for kind, compare in AFTER_SETS:
        if kind in (g.kind, a.kind):
            return compare(g, a)
    if g.kind == a.kind == "form":
        # "no" and "Bob" are words, not products in any order
        return g.tag == a.tag if g.tag in SHORT_WORDS else equal(g.form, a.form)
    if g.kind == a.kind == "union":
        return any_order(g.parts, a.parts)
    return same_group(g, a)


def aligned(g: Node, a: Node) -> tuple[Node, Node]:
    """Both in one notation: a column vector as a point, x = 5 cm beside a value as 5 cm, (m,b)=(3,-4) as m=3, b=-4."""
    if "matrix" in (g.kind, a.kind) and g.kind != a.kind:
        g, a = as_tuple(g), as_tuple(a)
    values = {n.parts[1].kind for n in (g, a) if named_value(n)}
    if {"unit", "based"} & ({g.kind, a.kind} | values):
        g, a = (n.parts[1] if named_value(n) and other.kind != "relation" else n for n, other in ((g, a), (a, g)))
    if "list" in (g.kind, a.kind):
        g, a = spread(g), spread(a)
    return g, a


def same_phrase(g: Node, a: Node) -> bool:
    return {g.kind, a.kind} <= {"words", "form"} and same_words(g.tag, a.tag)


def same_digits(g: Node, a: Node) -> bool:
    return g.kind == a.kind and g.tag == a.tag


def same_structure(g: Node, a: Node) -> bool | None:
    return False if (g.kind, g.tag) != (a.kind, a.tag) else all_same(g.parts, a.parts)


def same_group(g: Node, a: Node) -> bool | None:
    """Tuples, sets and lists, one of which may be a single value's."""
    groups = [n.kind in ("seq", "list") for n in (g, a)]
    if all(groups):
        return same_parts(g, a)
    if not any(groups):
        return False
    group, one = (g, a) if groups[0] else (a, g)
    if len(group.parts) == 1 and group.tag in (r"\{\}", "[]"):
        return same(group.parts[0], one)  # {5} and 5
    if group.tag == "or":  # 1/2 or 50%
        return every(same(part, one) if group is g else same(one, part) for part in group.parts)
    return False


def named_value(node: Node) -> bool:
    """x = 5"""
    return node.kind == "relation" and node.tag == "=" and label(node.parts[0]) is not None


def rounds(node: Node) -> bool:
    r"""Whether a decimal is what stands before it, rounded: 12\pi \approx 37.7."""
    form, decimal = node.parts[0].form, node.parts[1].form
    digits = re.fullmatch(r"-?[0-9]*\.([0-9]{1,15})", node.tag)
    return bool(form and decimal and digits and near(form, decimal.rational, Fraction(1, 10 ** len(digits[1]))))


def as_tuple(node: Node) -> Node:
    """A column vector as the point that it leads to, which is written either way."""
    return Node("seq", node.parts, "()") if node.kind == "matrix" and "1" in node.tag.split(" by ") else node


def every(verdicts) -> bool | None:
    """False when one is, else None when one is, else True."""
    unknown = False
    for verdict in verdicts:
        if verdict is False:
            return False
        unknown |= verdict is None
    return None if unknown else True


def some(verdicts) -> bool | None:
    """True when one is, else None when one is, else False."""
    verdicts = list(verdicts)
    if True in verdicts:
        return True
    return None if None in verdicts else False


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
    left, right = without_letter(left, other), without_letter(right, unit)
    verdict, sign = same(left, right), unit or other
    if verdict is True or sign not in SCALES or left.form is None or right.form is None:
        return verdict
    signed, bare = (left, right) if unit else (right, left)
    return some([verdict, equal(signed.form.times(SCALES[sign]), bare.form)])  # 50% is 50, and 1/2 too


def without_letter(node: Node, unit: str) -> Node:
    """5 of `5 m`, which reads as a product, beside a value in metres."""
    tree = node.form.tree if node.form and unit else ()
    if tree[:1] == ("*",) and tree[1][-1] == ("v", unit):
        return Node("form", form=Form(("*", tree[1][:-1])))
    return node


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
        left, right = ([p.form for p in n.parts] for n in (g, a))
        zeros = [all(equal(form, ZERO) for form in side) for side in (left, right)]
        if any(zeros):  # 0:0 is proportional to everything
            return all(zeros)
        pairs = combinations(zip(left, right, strict=True), 2)
        return every(equal(x.times(q), y.times(p)) for (x, y), (p, q) in pairs)
    ratio, value = (g, a) if g.kind == "ratio" else (a, g)
    if len(ratio.parts) != 2 or not (value.form and ratio.parts[0].form and ratio.parts[1].form):
        return False
    return equal(ratio.parts[0].form.over(ratio.parts[1].form), value.form)


def same_parts(g: Node, a: Node) -> bool | None:
    """Tuples, intervals and points in order; sets and lists in any; brackets may be left out but not changed."""
    if g.tag == a.tag == r"\{\}":
        covered = every(some(same(p, q) for q in a.parts) for p in g.parts)
        return every([covered, every(some(same(p, q) for p in g.parts) for q in a.parts)])
    tags = {n.tag for n in (g, a) if n.kind == "seq"}
    if tags == {"[]"} and g.kind != a.kind and len(g.parts) > 2:
        tags = set()  # a list of Python's, as two numbers would be an interval
    if len(tags) > 1 or (tags and tags.isdisjoint({"()", r"\{\}"}) and g.kind != a.kind):
        return False
    labels = [[label(p.parts[0]) if p.kind == "relation" else None for p in n.parts] for n in (g, a)]
    named = [len(set(names)) > 1 and None not in names for names in labels]
    roots = any(
        len({name.partition("_")[0] for name in names}) == 1 for names, n in zip(labels, named, strict=True) if n
    )
    if named[0] != named[1] and not (roots and not tags):  # y=2, x=1 is (1,2); x_1=3, x_2=-3 isn't a pair
        names, parts, other = (labels[0], g.parts, a.parts) if named[0] else (labels[1], a.parts, g.parts)
        orders = [by_name(names, parts), parts if set(names) - set("xyz") else ()]  # n=5, k=2 as (5,2) or (2,5)
        return some(all_same(*((order, other) if named[0] else (other, order))) for order in orders)
    return all_same(g.parts, a.parts) if tags and tags != {r"\{\}"} else any_order(g.parts, a.parts)


def spread(node: Node) -> Node:
    """(m,b)=(3,-4) as m=3, b=-4."""
    if node.kind != "relation" or node.tag != "=" or [p.kind for p in node.parts] != ["seq", "seq"]:
        return node
    names, found = (p.parts for p in node.parts)
    if len(names) != len(found) or not all(map(label, names)):
        return node
    return Node("list", tuple(Node("relation", pair, "=") for pair in zip(names, found, strict=True)))


def by_name(names: list[str], parts: tuple) -> tuple:
    """Parts in the order of their names, which is how a tuple without them is read."""
    return tuple(part for _, part in sorted(zip(names, parts, strict=True), key=lambda pair: pair[0].strip("\\")))


def same_relation(g: Node, a: Node) -> bool | None:
    """Equations against equations or values; inequalities that aren't sets of one variable."""
    if g.kind == a.kind == "relation":
        if g.tag == a.tag == "=":
            return same_equation(g, a)
        if set(g.tag.split()) != {"="} and set(a.tag.split()) != {"="}:
            return same_inequality(g, a)
    if any(n.kind == "relation" and set(n.tag.split()) != {"="} for n in (g, a)):
        return False  # x > 5 is neither 5 nor x = 5
    names = {label(n.parts[0], loose=n is a) for n in (g, a) if n.kind == "relation"} - {None}
    if len(names) > 1 or (g.kind == "relation" and not names):
        return False  # 2x+3y=6 has no value
    letters = [letter for name in names for letter in name.split(",")]
    if len(letters) > 1 and set(letters) <= set("xyz") and letters != sorted(letters):
        return False  # (y,x)=(1,2) isn't a plain (1,2)
    left, right = (sides_with_values(n, loose=n is a) for n in (g, a))
    return every(same(x, y) for x in left for y in right)  # 2+2=4 is 4; 3=4 is nothing


def sides_with_values(node: Node, loose: bool) -> tuple[Node, ...]:
    """What is said of a name: 5 of x = y = 5; anything else, as it is."""
    if node.kind != "relation":
        return (node,)
    named = [label(part, loose) is not None for part in node.parts[:-1]]
    return tuple(part for part, is_name in zip(node.parts, [*named, False], strict=True) if not is_name)


def same_equation(g: Node, a: Node) -> bool | None:
    names = [label(n.parts[0]) for n in (g, a)]
    if None not in names and (names[0] == names[1] or names[0].endswith(")") != names[1].endswith(")")):
        verdict = same(g.parts[1], a.parts[1])
        if verdict is not False or not (g.parts[1].form and a.parts[1].form):
            return verdict
    sides = [difference(n) for n in (g, a)]
    if None in sides:
        return every([same(g.parts[0], a.parts[0]), same(g.parts[1], a.parts[1])])
    verdicts = [proportion(*sides), proportion(*map(cleared, sides))]  # xy=1 may be y=1/x
    return any(verdicts) or (None if None in verdicts else False)


def cleared(form: Form) -> Form:
    """A sum times the denominators of its terms: y - 1/x becomes x y - 1."""
    below: list[tuple] = []
    for term in form.tree[1] if form.tree[0] == "+" else [form.tree]:
        while term[0] == "neg":
            term = term[1]
        below += [f[2] for f in (term[1] if term[0] == "*" else [term]) if f[0] == "/" and f[2] not in below]
    return Form(("*", [form.tree, *below]))


def same_inequality(g: Node, a: Node) -> bool | None:
    if len(g.parts) != 2 or len(a.parts) != 2:
        if g.tag != a.tag:  # c > b > a is a < b < c
            a = Node("relation", a.parts[::-1], " ".join(FLIPPED.get(op, op) for op in reversed(a.tag.split())))
        return all_same(g.parts, a.parts) if g.tag == a.tag else None
    sides = [difference(n) for n in (g, a)]
    ratio = None if None in sides else proportion(*sides)
    return (a.tag if ratio > 0 else FLIPPED[a.tag]) == g.tag if ratio else None


def same_reals(g: tuple, a: tuple) -> bool | None:
    if g[0] and a[0] and g[0] != a[0]:
        return False
    merged = [merge(intervals) for _, intervals in (g, a)]
    if None not in merged:
        return bool(merged[0]) and same_ends(*merged)
    left = [Node("seq", i[:2], i[2]) for i in g[1]]
    right = [Node("seq", i[:2], i[2]) for i in a[1]]
    verdict = any_order(tuple(left), tuple(right))
    return verdict if verdict or len(left) == len(right) == 1 else None


# what decides for a pair of which one node is of the kind, in this order: before both are tried as sets of real numbers, and after
BEFORE_SETS = (("unit", same_quantity), ("choice", same_choice), ("words", same_phrase), ("based", same_digits))
AFTER_SETS = (
    ("relation", same_relation),
    ("infinity", same_structure),
    ("residue", same_structure),
    ("matrix", same_structure),
    ("ratio", same_ratio),
)
