"""The tests' process: asserts run here, on plain data and on handles, never beside the candidate.

Exit codes, printed words and equality that is evaluated in the candidate's process have all been gamed; here a verdict
is written by this process, on a descriptor that only it has. A candidate's object has no truth value, equals nothing but
another of its objects, and takes part in no arithmetic with what the test expects.
"""

import ast
import builtins
import importlib
import os
import sys
import types

from rewards._sandbox import handles, prelude, records, wire
from rewards._sandbox.callee import RECURSION_LIMIT
from rewards._sandbox.names import names_in
from rewards._sandbox.peer import Peer
from rewards._sandbox.session import is_plain_class
from rewards._sandbox.tolerance import Equal, Tolerant

PACKAGES = {"numpy": "numpy", "np": "numpy", "pytest": "pytest", "pd": "pandas", "pandas": "pandas"}
LOADED, PASSED, FAILED, DIED = b"^", b"+", b"-", b"x"


def run(fd: int, verdicts: int, tests: dict) -> None:
    """Write LOADED when the candidate's module has run, then a verdict an assert; DIED is the last when it is gone.

    tests: "prelude", "setup", "asserts", how many of them are "done", and "float_tolerance", None where there is none.
    """
    before, setup, asserts, tolerance = (tests[key] for key in ("prelude", "setup", "asserts", "float_tolerance"))
    sys.setrecursionlimit(RECURSION_LIMIT)
    process = os.getpid()

    def tell(verdict: bytes) -> None:
        if os.getpid() != process:
            os._exit(1)  # a process that a test has started, and that has left it
        os.write(verdicts, verdict)

    def read(source: str) -> ast.Module:
        return ast.parse(source) if tolerance is None else Tolerant().visit(ast.parse(source))

    peer = Peer(fd)
    try:
        given = prelude.run(before, {}, usual=False)
        peer.give(given)
        # one by one: what fails must not take the others along
        prepared = [(node, compile(ast.Module([node], []), "setup.py", "exec")) for node in read(setup).body]
        trees = [read(code) for code in asserts]
        compiled = [compile(tree, f"test {number}", "exec") for number, tree in enumerate(trees)]
        nodes = [n for tree in (*(node for node, _ in prepared), *trees) for n in ast.walk(tree)]
        namespace = names(peer, nodes, [*(code for _, code in prepared), *compiled], given)
    except (wire.Closed, Exception):
        return
    tell(LOADED)
    functions = {n.name for n in nodes if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))}
    asserted = {f"test {number}": asserted_lines([tree], functions) for number, tree in enumerate(trees)}
    handles.keep_asserts(asserted | {"setup.py": asserted_lines([node for node, _ in prepared], functions)})
    namespace["__name__"] = "tests"
    if tolerance is not None:
        namespace["__equal__"] = Equal(tolerance)
    for node, code in prepared:
        try:
            exec(code, namespace)
        except wire.Closed:
            return tell(DIED)
        except Exception:  # what it was to define is missing, and the asserts that need it fail
            continue
        if records.is_record(node) and is_plain_class(namespace.get(node.name)):
            peer.classes[node.name] = namespace[node.name]
    for code in compiled[tests["done"] :]:
        try:
            exec(code, namespace)
        except wire.Closed:
            return tell(DIED)
        except BaseException as error:
            tell(DIED if peer.gone else FAILED)
            if tests.get("explain") and not peer.gone:
                tell(reason(error, trees[tests["done"]], namespace).encode())
        else:
            # a test may swallow every exception, the candidate's death among them
            tell(DIED if peer.gone else PASSED)
        if peer.gone:
            return


def reason(error: BaseException, tree: ast.Module, namespace: dict[str, object]) -> str:
    """In words why a test failed: what both sides of its comparison are, or what was raised."""
    last = tree.body[-1]
    if type(error) is AssertionError and isinstance(last, ast.Assert) and isinstance(last.test, ast.Compare):
        try:
            sides = [
                eval(compile(ast.Expression(e), "side", "eval"), namespace)
                for e in (last.test.left, *last.test.comparators)
            ]
            return f"{' and '.join(repr(side)[:200] for side in sides)} don't compare so"
        except BaseException as raised:
            error = raised
    return f"{type(error).__name__}: {error}"[:400]


def names(peer: Peer, nodes: list[ast.AST], codes: list[types.CodeType], given: dict[str, object]) -> dict[str, object]:
    """The namespace of the tests: what the prelude gives, and the candidate's names that they are to have.

    `math` in `math.isclose` is the module, whatever the candidate has made of that name; and nothing stands in for what
    the candidate was to define.
    """
    defined = peer.receive()["names"]
    known = vars(builtins)
    wanted, looked_into, classes, all_of_solution = names_in(nodes, codes, lambda n: n in given or n in known)
    handles.tested.update(classes)
    namespace = {n: v for n, v in given.items() if n not in wanted}
    if not wanted.isdisjoint(known):
        namespace["__builtins__"] = {n: v for n, v in known.items() if n not in wanted}
    found: dict[str, object] = {}
    requested = []
    for name in sorted(wanted | set(defined) if all_of_solution else wanted):
        if name in looked_into and (name in sys.stdlib_module_names or name in PACKAGES):
            try:
                module = importlib.import_module(PACKAGES.get(name, name))
            except ImportError:
                continue
            if name in PACKAGES or all(hasattr(module, attribute) for attribute in looked_into[name]):
                namespace[name] = module
                continue
        if name in defined and name.isidentifier() and not name.startswith("__"):
            origin = defined[name]
            if type(origin) is list and len(origin) == 2 and origin[1] == name and origin[0] in wire.HELPERS:
                found[name] = getattr(importlib.import_module(origin[0]), name)
            else:
                requested.append(name)
    if requested:
        found |= zip(requested, peer.ask("names", *requested), strict=True)
    sys.modules["solution"] = peer.solution
    vars(peer.solution).update(found)
    peer.watched = {n: found[n] for n in requested}
    peer.namespace = namespace | {n: v for n, v in found.items() if n in wanted}
    return peer.namespace


def asserted_lines(trees: list[ast.AST], functions: set[str]) -> list[tuple[int, int, int]]:
    """(first line, last line, line of the last check) of each `with` block that asserts something, or calls `functions`."""
    found = []
    for node in (n for tree in trees for n in ast.walk(tree)):
        if isinstance(node, (ast.With, ast.AsyncWith)):
            checks = [n.lineno for part in node.body for n in ast.walk(part) if _checks(n, functions)]
            if checks:
                found.append((node.body[0].lineno, node.end_lineno or node.lineno, max(checks)))
    return found


def _checks(node: ast.AST, functions: set[str]) -> bool:
    if isinstance(node, ast.Call):
        name = getattr(node.func, "id", None) or getattr(node.func, "attr", "")
        return name in functions or name.startswith("assert")
    return isinstance(node, ast.Assert)
