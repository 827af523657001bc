"""Classes that the tests define only to hold data, such as a ListNode in the setup: the candidate needs them as well.

Nothing of the tests reaches the candidate but the names of such a class and of its attributes.
"""

import ast
import functools


def names(setup: str) -> set[str]:
    return {node.name for node in ast.parse(setup).body if is_record(node)}


@functools.lru_cache(maxsize=1024)  # a group of completions has the same tests
def source(setup: str) -> str:
    """Its classes, as source of their own: each with the __init__ that stores its arguments."""
    found = [node for node in ast.parse(setup).body if is_record(node)]
    for node in found:
        node.body = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
    return "\n".join(map(ast.unparse, found))


def is_record(node: ast.stmt) -> bool:
    if not isinstance(node, ast.ClassDef) or node.bases or node.keywords or node.decorator_list:
        return False
    methods = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
    return len(methods) == 1 and not methods[0].decorator_list and _stores_arguments(methods[0])


def _stores_arguments(function: ast.FunctionDef) -> bool:
    """def __init__(self, a, b=None): self.a = a; self.b = b or []"""
    arguments = {a.arg for a in ast.walk(function.args) if isinstance(a, ast.arg)}
    if not all(_is_simple(d) for d in (*function.args.defaults, *function.args.kw_defaults) if d is not None):
        return False
    for node in function.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
            return False
        targets = [e for t in targets for e in (t.elts if isinstance(t, ast.Tuple) else [t])]
        if not all(isinstance(t, ast.Attribute) for t in targets):
            return False
        values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
        names = {n.id for v in values for n in ast.walk(v) if isinstance(n, ast.Name)}
        if not names <= arguments or not all(
            isinstance(v, ast.Name) or _is_simple(v) or _is_default(v) for v in values
        ):
            return False
    for argument in (*function.args.args, *function.args.kwonlyargs):
        argument.annotation = None
    return True


def _is_simple(node: ast.expr) -> bool:
    """None, 0, '', an empty list or dict, inf: nothing that could be an expected value."""
    if isinstance(node, ast.Constant):
        return node.value is None or isinstance(node.value, bool) or node.value in (0, 1, -1, "")
    return (isinstance(node, ast.List) and not node.elts) or (isinstance(node, ast.Dict) and not node.keys)


def _is_default(node: ast.expr) -> bool:
    """b or [], [] if b is None else b"""
    if isinstance(node, ast.BoolOp):
        return all(isinstance(v, ast.Name) or _is_simple(v) for v in node.values)
    if isinstance(node, ast.IfExp):
        return all(isinstance(v, ast.Name) or _is_simple(v) for v in (node.body, node.orelse))
    return False
