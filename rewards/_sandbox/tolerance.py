"""Asserts that compare floats within a tolerance, where a row allows one."""

import ast
import math


class Tolerant(ast.NodeTransformer):
    """`a == b` as a call of __equal__."""

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if len(node.ops) == 1 and isinstance(node.ops[0], ast.Eq):
            call = ast.Call(ast.Name("__equal__", ast.Load()), [node.left, *node.comparators], [])
            return ast.fix_missing_locations(ast.copy_location(call, node))
        return node


class Equal:
    """Equality of numbers within a tolerance, absolute or relative, also inside of lists, tuples and dictionaries."""

    def __init__(self, tolerance: float):
        self.tolerance = tolerance

    def __call__(self, a: object, b: object) -> bool:
        if type(a) in (list, tuple) and type(a) is type(b):
            return len(a) == len(b) and all(map(self, a, b))
        if type(a) is type(b) is dict:
            return a.keys() == b.keys() and all(self(a[k], b[k]) for k in a)
        if float in (type(a), type(b)) and {type(a), type(b)} <= {int, float}:
            return math.isclose(a, b, rel_tol=self.tolerance, abs_tol=self.tolerance)
        return a == b
