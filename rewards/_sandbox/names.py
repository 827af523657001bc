"""Which names of a row's tests are the candidate's: only by the text of the tests, whatever a candidate says.

A builtin, and what the prelude gives, stay Python's and the prelude's own, or a test's `abs` or `encode` would be the
candidate's: unless the tests evidently test it. With `check(f)` or `candidate = f`, what is under test is f, and no
helper that the tests call beside it.
"""

import ast
import dis
import sys
import types
from collections.abc import Callable, Iterator
from typing import NamedTuple

LOAD_NAME, STORE_NAME, LOAD_GLOBAL, STORE_GLOBAL, LOAD_CONST, EXTENDED_ARG = (
    dis.opmap[name] for name in ("LOAD_NAME", "STORE_NAME", "LOAD_GLOBAL", "STORE_GLOBAL", "LOAD_CONST", "EXTENDED_ARG")
)
GLOBAL_SHIFT = int(sys.version_info >= (3, 11))  # since then, the last bit says how it is called
IN_PLACE = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")  # code of its own that runs where it stands


class Names(NamedTuple):
    wanted: set[str]  # from the candidate
    looked_into: dict[str, set[str]]  # name -> the attributes of it that the tests name
    classes: set[str]  # those of the candidate's that tests name, written as classes are
    all_of_solution: bool  # the tests import the module itself


def names_in(nodes: list[ast.AST], codes: list[types.CodeType], is_given: Callable[[str], bool]) -> Names:
    """`nodes` are all of the tests', `codes` their compiled statements; builtins and the prelude's names are given."""
    read, free = free_names(codes)
    given = {name for name in free if is_given(name)}
    from_solution, all_of_solution = imported(nodes)
    wanted = tested_names(nodes, free - given, read)
    if not wanted and not from_solution and not all_of_solution:
        wanted = tested_builtins(nodes, given, entry_points(nodes)[0] & given)
    wanted |= from_solution
    classes = {name for name in wanted if name[:1].isupper()}
    return Names(wanted, attributes_of(nodes), classes, all_of_solution)


def free_names(codes: list[types.CodeType]) -> tuple[set[str], set[str]]:
    """Global names that are read before the tests bind them themselves: outside functions, and anywhere."""
    read: set[str] = set()
    in_functions: set[str] = set()
    bound: set[str] = set()
    for code in codes:
        for event, name in events(code):
            if event == "bind":
                bound.add(name)
            elif event == "read in a function":
                in_functions.add(name)
            elif name not in bound:
                read.add(name)
    return read, read | (in_functions - bound)


def tested_names(nodes: list[ast.AST], unbound: set[str], read: set[str]) -> set[str]:
    """Of the names that nobody gives, those that the candidate has to: a helper beside an entry point is the row's to give."""
    entries, aliased = entry_points(nodes)
    tested = entries & unbound
    if not tested:
        return unbound
    helpers = unbound if aliased else unbound - read
    return {name for name in unbound if name in tested or name not in helpers or name[:1].isupper()}


def attributes_of(nodes: list[ast.AST]) -> dict[str, set[str]]:
    """name -> the attributes of it that the tests name."""
    found: dict[str, set[str]] = {}
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found.setdefault(node.value.id, set()).add(node.attr)
    return found


def events(code: types.CodeType, inner: bool = False) -> Iterator[tuple[str, str]]:
    """("read", "bind" or "read in a function", name) of global names, in the order in which they happen."""
    bytecode = code.co_code
    in_class_body = set()
    if inner and STORE_NAME in bytecode[::2]:
        in_class_body = {code.co_names[arg] for op, arg in instructions(bytecode) if op == STORE_NAME}
    for op, arg in instructions(bytecode):
        if op in (LOAD_NAME, LOAD_GLOBAL):
            name = code.co_names[arg if op == LOAD_NAME else arg >> GLOBAL_SHIFT]
            if name not in in_class_body:
                yield ("read in a function" if inner else "read"), name
        elif op == STORE_GLOBAL or (op == STORE_NAME and not inner):
            yield "bind", code.co_names[arg]
        elif op == LOAD_CONST and isinstance(constant := code.co_consts[arg], types.CodeType):
            yield from events(constant, inner or constant.co_name not in IN_PLACE)


def instructions(bytecode: bytes) -> Iterator[tuple[int, int]]:
    """(operation, its argument) as in dis, which takes ten times as long."""
    extended = 0
    for op, arg in zip(bytecode[::2], bytecode[1::2], strict=True):
        arg |= extended
        extended = arg << 8 if op == EXTENDED_ARG else 0
        yield op, arg


def imported(nodes: list[ast.AST]) -> tuple[set[str], bool]:
    """What the tests import from `solution` or take from it as attributes; whether they have the module itself."""
    imports = [n for n in nodes if isinstance(n, ast.ImportFrom) and n.module == "solution"]
    names = {alias.name for n in imports for alias in n.names}
    modules = {
        alias.asname or alias.name
        for n in nodes if isinstance(n, ast.Import) for alias in n.names if alias.name == "solution"
    }  # fmt: skip
    attributes = [n for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)]
    return names | {n.attr for n in attributes if n.value.id in modules}, bool(modules) or "*" in names


def entry_points(nodes: list[ast.AST]) -> tuple[set[str], bool]:
    """(what the tests hand to a function of their own, as in `check(f)`, or call candidate; whether they call it so)."""
    functions = {n.name for n in nodes if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))}
    found: set[str | None] = set()
    aliased = False
    for node in nodes:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "candidate" for t in node.targets):
            found.add(root_name(node.value))
            aliased = True
        call = node.value if isinstance(node, ast.Expr) else None
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in functions:
            found |= {root_name(a) for a in (*call.args, *(k.value for k in call.keywords))}
    return {n for n in found if n is not None}, aliased


def root_name(node: ast.expr) -> str | None:
    """f of `f`, Solution of `Solution().f`, None where something is called with arguments."""
    while True:
        if isinstance(node, ast.Attribute):
            node = node.value
        elif isinstance(node, ast.Call) and not node.args and not node.keywords:
            node = node.func
        else:
            return node.id if isinstance(node, ast.Name) else None


def tested_builtins(nodes: list[ast.AST], given: set[str], entries: set[str]) -> set[str]:
    """Where nothing else is left to test: what is handed to `check`, else the one name that every test calls, innermost."""
    if entries:
        return entries if len(entries) == 1 else set()
    common: set[str] | None = None
    for statement in (n for n in nodes if isinstance(n, (ast.Assert, ast.Expr))):
        calls = [n for n in ast.walk(statement) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
        innermost = {c.func.id for c in calls if not any(isinstance(n, ast.Call) for a in c.args for n in ast.walk(a))}
        if innermost & given:
            common = innermost & given if common is None else common & innermost
    return common if common is not None and len(common) == 1 else set()
