"""A row's tests in one form: whether they can be run, and as many of them as their text holds."""

import ast
import json
import math
import sys
from functools import lru_cache

TIME_LIMIT_S = 5.0  # where the row gives none
PACKAGES = {"numpy", "sortedcontainers", "solution"}  # that tests may import in addition to the standard library


def usable(tests: dict | str | None) -> dict | None:
    """A row's tests, with every key set, or None when there is nothing to run: no tests at all are not all passed.

    float_tolerance is None or the absolute and relative difference up to which two floats are equal.
    """
    if isinstance(tests, str):
        try:
            tests = json.loads(tests)
        except (ValueError, RecursionError):
            return None
    if not isinstance(tests, dict):
        return None
    limit_s, prelude = tests.get("time_limit") or TIME_LIMIT_S, tests.get("prelude") or ""
    if isinstance(limit_s, bool) or not isinstance(limit_s, (int, float)) or not 0 < limit_s < 3600:
        return None
    tolerance = tests.get("float_tolerance")
    if tolerance is not None and (not isinstance(tolerance, float) or not 0 < tolerance < math.inf):
        return None
    if not isinstance(prelude, str) or not importable([prelude]):
        return None
    common = {"time_limit": float(limit_s), "float_tolerance": tolerance}
    if tests.get("type") == "stdin":
        cases = tests.get("cases")
        if not isinstance(cases, list) or not cases:
            return None
        if not all(isinstance(c, dict) and all(isinstance(c.get(k), str) for k in ("input", "output")) for c in cases):
            return None
        return {"type": "stdin", "cases": cases, "prelude": prelude} | common
    if tests.get("type") == "assert":
        setup, asserts = tests.get("setup") or "", tests.get("asserts")
        if not isinstance(setup, str) or not isinstance(asserts, list) or not asserts:
            return None
        if not all(isinstance(a, str) for a in asserts):
            return None
        if (read := asserts_of(setup, tuple(asserts))) is None:
            return None
        setup, asserts = read
        return {"type": "assert", "setup": setup, "asserts": list(asserts), "prelude": prelude} | common
    return None


@lru_cache(maxsize=4096)
def asserts_of(setup: str, asserts: tuple[str, ...]) -> tuple[str, tuple[str, ...]] | None:
    """(setup, asserts), a check's asserts one by one; None when they can't be run."""
    if not all(map(runs_something, asserts)) or not importable([setup, *asserts]):
        return None
    return split(setup, ast.parse(setup), asserts)


def split(setup: str, tree: ast.Module, asserts: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """`def check(candidate)` with asserts in a row, and `check(f)`, as those asserts on `candidate = f`.

    What stands before the first assert becomes setup, what stands between two goes with the second.
    """
    call = ast.parse(asserts[0]).body
    if (
        len(asserts) > 1
        or len(call) > 1
        or not isinstance(call[0], ast.Expr)
        or not isinstance(call[0].value, ast.Call)
    ):
        return setup, asserts
    call = call[0].value
    check = next(
        (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == getattr(call.func, "id", "")), None
    )
    if check is None or len(call.args) != 1 or call.keywords or len(check.args.args) != 1 or check.decorator_list:
        return setup, asserts
    body, parameter = check.body, check.args.args[0].arg
    body = [n for n in body if not (isinstance(n, ast.Assert) and isinstance(n.test, ast.Constant))]  # assert True
    first = next((i for i, node in enumerate(body) if isinstance(node, ast.Assert)), None)
    if first is None or any(isinstance(n, (ast.Return, ast.Global, ast.Nonlocal, ast.Yield)) for n in ast.walk(check)):
        return setup, asserts
    bound = {n.id for n in ast.walk(check) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    if bound & {n.id for n in ast.walk(call) if isinstance(n, ast.Name)}:
        return setup, asserts  # a local variable with the function's name
    others = [ast.unparse(node) for node in tree.body if node is not check]
    before = [] if parameter == ast.unparse(call.args[0]) else [f"{parameter} = {ast.unparse(call.args[0])}"]
    tests, pending = [], []
    for node in body[first:]:
        pending.append(ast.unparse(node))
        if any(isinstance(n, ast.Assert) for n in ast.walk(node)):
            tests.append("\n".join(pending))
            pending = []
    return "\n".join([*others, *before, *map(ast.unparse, body[:first])]), tuple(tests)


def runs_something(source: str) -> bool:
    """Whether a test is Python, and does more than define: a function that nobody calls would pass everything."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    idle = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom, ast.Pass)
    return any(not isinstance(node, idle) and not _is_constant(node) for node in tree.body)


def _is_constant(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


@lru_cache(maxsize=4096)
def _modules(source: str) -> frozenset[str] | None:
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    modules = {alias.name for n in nodes if isinstance(n, ast.Import) for alias in n.names}
    modules |= {n.module or "." for n in nodes if isinstance(n, ast.ImportFrom)}
    return frozenset(m.partition(".")[0] for m in modules)


def importable(sources: list[str]) -> bool:
    """Whether tests are Python, and import only what the sandbox has: the standard library, PACKAGES, and the solution."""
    found = [_modules(source) for source in sources]
    return None not in found and all(m in sys.stdlib_module_names | PACKAGES for modules in found for m in modules)
