r"""Answers as sets of real numbers: x > 3, 2x+1 \le 7, unions, complements and points as lists of intervals.

A set is a pair: its variable or None, and [(low, high, brackets)], the ends being Nodes.
"""

from fractions import Fraction
from functools import cmp_to_key

from rewards._math.numeric import Form, equal, sign
from rewards._math.structure import REALS, Node, kinds, label

FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "!=": "!="}
MINUS, PLUS = REALS.parts


def reals(node: Node) -> tuple[str | None, list] | None:
    """The intervals of a node that can be read as a set of real numbers, and its variable; else None."""
    if node.kind == "list" and kinds(node) == {"list", "seq"}:  # (-\infty,2), (3,\infty)
        node = Node("union", node.parts)
    if node.kind == "seq" and len(node.parts) == 2 and node.tag[0] in "([" and node.tag[-1] in ")]":
        return None, [(*node.parts, node.tag)]
    if node.kind == "seq" and node.tag == r"\{\}":
        return None, [(part, part, "[]") for part in node.parts]
    if node.kind == "relation":
        return half_lines(node)
    if node.kind == "complement":
        return complement(node.parts[0])
    if node.kind == "union" or (node.kind == "list" and kinds(node) == {"list", "relation"}):
        found = [reals(part) for part in node.parts]
        names = {f[0] for f in found if f}
        if None in found or len(names) > 1:
            return None
        if node.kind == "list" and node.tag != "or":  # x > 1, x < 3 is one interval; x < 1, x > 3 is two
            interval = meet(found) if len(found) == 2 else None
            if interval is None or (empty := backwards(*interval[:2])) is None or (empty and node.tag == "and"):
                return None
            if not empty:
                return names.pop(), [interval]
        return names.pop(), [interval for f in found for interval in f[1]]
    return None


def complement(node: Node) -> tuple[None, list] | None:
    r"""\mathbb{R} \setminus [2,3], \mathbb{R} \setminus \{1,2\}"""
    found = reals(node)
    merged = merge(found[1]) if found else None
    if not merged:
        return None
    ends = [(MINUS, 1), *(end for interval in merged for end in interval), (PLUS, -1)]
    return None, [
        (low, high, ("[" if before < 0 else "(") + ("]" if behind > 0 else ")"))
        for (low, before), (high, behind) in zip(ends[::2], ends[1::2], strict=True)
        if low is not high or low.form
    ]


def meet(found: list) -> tuple | None:
    """The interval between a lower and an upper bound."""
    first, second = (f[1] for f in found)
    if len(first) == len(second) == 1:
        for (low, x, left), (y, high, right) in ((first[0], second[0]), (second[0], first[0])):
            if x is PLUS and y is MINUS:
                return low, high, left[0] + right[1]
    return None


def backwards(low: Node, high: Node) -> bool | None:
    """Whether a lower bound is above the upper one, where both are numbers."""
    order = sign(low.form.minus(high.form)) if low.form and high.form else None
    return order > 0 if order else None


def half_lines(relation: Node) -> tuple[str, list] | None:
    """x > 3, 2x+1 <= 7, 1 < x <= 2 and x != 3 as intervals."""
    operators = relation.tag.split()
    if operators == ["="] and label(relation.parts[0]) and relation.parts[1].form:
        return label(relation.parts[0]), [(relation.parts[1], relation.parts[1], "[]")]
    if any(op not in FLIPPED for op in operators):
        return None
    if len(operators) == 2 and (name := label(relation.parts[1])) and "!=" not in operators:
        low, _, high = relation.parts
        if operators[0] in (">", ">=") and operators[1] in (">", ">="):
            low, high, operators = high, low, [FLIPPED[op] for op in reversed(operators)]
        if not all(op in ("<", "<=") for op in operators):
            return None
        return name, [(low, high, ("[" if operators[0] == "<=" else "(") + ("]" if operators[1] == "<=" else ")"))]
    left = difference(relation) if len(operators) == 1 else None
    if left is None or len(left.variables) != 1:
        return None
    (name,) = left.variables
    start = left.at(name, 0)
    slope = left.at(name, 1).minus(start)
    line = [
        (left.at(name, t), Form(("+", [start.tree, ("*", [("n", t), slope.tree])])))
        for t in (Fraction(5, 2), Fraction(-3))
    ]
    if not sign(slope) or not all(equal(*pair) for pair in line):  # |x| < 3 and e^x > 3 aren't solved
        return None
    end = Node("form", form=Form(("neg", start.over(slope).tree)))
    op = operators[0] if sign(slope) > 0 else FLIPPED[operators[0]]
    below, above = (MINUS, end, "(]" if op == "<=" else "()"), (end, PLUS, "[)" if op == ">=" else "()")
    return name, [below, above] if op == "!=" else [below] if op[0] == "<" else [above]


def merge(intervals: list) -> list | None:
    """Intervals sorted and joined where they overlap; None when an end isn't a number."""
    found = []
    for low, high, brackets in intervals:
        if any(end.kind != "infinity" and (end.form is None or sign(end.form) is None) for end in (low, high)):
            return None
        ends = [(low, 0 if brackets[0] == "[" else 1), (high, 0 if brackets[-1] == "]" else -1)]
        if order(*ends) <= 0:
            found.append(ends)
    found.sort(key=cmp_to_key(lambda a, b: order(a[0], b[0])))
    joined: list = []
    for low, high in found:
        if joined and touches(joined[-1][1], low):
            joined[-1][1] = max(joined[-1][1], high, key=cmp_to_key(order))
        else:
            joined.append([low, high])
    return joined


def order(p: tuple, q: tuple) -> int:
    """Of two ends of intervals: a number or infinity, and whether the interval ends before (-1), at or behind it."""
    (a, before), (b, behind) = p, q
    ranks = [0 if end.form else -1 if end.tag == "-" else 1 for end in (a, b)]
    if ranks != [0, 0]:
        return ranks[0] - ranks[1]
    return sign(a.form.minus(b.form)) or before - behind


def same_ends(g: list, a: list) -> bool:
    return len(g) == len(a) and all(
        order(p, q) == 0 for x, y in zip(g, a, strict=True) for p, q in zip(x, y, strict=True)
    )


def touches(high: tuple, low: tuple) -> bool:
    """Whether nothing lies between one interval's upper end and the next one's lower end."""
    return order(low, high) <= 0 or (order((low[0], 0), (high[0], 0)) == 0 and not (high[1] and low[1]))


def difference(relation: Node) -> Form | None:
    """Left minus right side of a two-sided relation."""
    left, right = (p.form for p in relation.parts)
    return None if left is None or right is None else left.minus(right)
