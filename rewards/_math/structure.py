"""The structure of an answer that is more than one formula: a tree of Nodes, and what its values are called."""

from dataclasses import dataclass

from rewards._math.numeric import Form
from rewards._math.rationals import children


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


def kinds(node: Node) -> set[str]:
    return {node.kind} | {part.kind for part in node.parts}


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
