"""Which names of the tests are the candidate's: decided by the tests' text alone, whatever a candidate defines.

The candidate gives what is tested, and nothing that the tests only use: builtins, the usual library names and modules, and
helpers that the row's prelude defines stay Python's and the row's own, or a program would bring its own `abs` along.
"""

import ast
import builtins
import symtable
from typing import NamedTuple

# modules whose own functions and classes a test gets from its own copy, never from the candidate's
HELPERS = {
    "math", "cmath", "collections", "itertools", "functools", "re", "string", "random", "heapq", "bisect", "operator",
    "datetime", "decimal", "fractions", "statistics", "copy", "json", "typing",
}  # fmt: skip
PACKAGES = {"numpy": "numpy", "np": "numpy", "pytest": "pytest", "pd": "pandas", "pandas": "pandas"}


class Names(NamedTuple):
    """wanted: names to ask the candidate for. modules: names that are modules of the tests' own. bound: theirs."""

    wanted: set[str]
    modules: set[str]


def names_of(setup: str, asserts: list[str], given: set[str]) -> Names:
    """What the tests need of the candidate. given: names that its row or LeetCode's usual imports define."""
    sources = [setup, *asserts]
    trees = [ast.parse(source) for source in sources]
    read, bound = set(), set()
    for source in sources:
        table_read, table_bound = module_names(symtable.symtable(source, "tests", "exec"))
        read |= table_read
        bound |= table_bound
    solution = from_solution(trees)
    own = {alias.asname or alias.name for tree in trees for node in ast.walk(tree)
           if isinstance(node, ast.ImportFrom) and node.module == "solution" for alias in node.names}  # fmt: skip
    bound -= own
    attributes = {
        n.value.id
        for tree in trees
        for n in ast.walk(tree)
        if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)
    }
    modules = {n for n in read - bound if n in attributes and n in HELPERS | PACKAGES.keys()}
    free = (read | solution) - bound - modules - handed_to_checks(trees)
    reserved = {n for n in free if hasattr(builtins, n) or n in given} - solution
    tested = free - reserved
    if not tested:
        tested = tested_builtin(trees[1:], reserved)
    return Names(tested, modules)


def module_names(table: symtable.SymbolTable) -> tuple[set[str], set[str]]:
    """What a module's code reads from outside its functions' own scopes, and what it binds itself."""
    read = {s.get_name() for s in table.get_symbols() if s.is_referenced()}
    bound = {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported() or s.is_namespace()}
    waiting = list(table.get_children())
    while waiting:
        inner = waiting.pop()
        waiting += inner.get_children()
        for symbol in inner.get_symbols():
            if symbol.is_global():
                read |= {symbol.get_name()} if symbol.is_referenced() else set()
                bound |= {symbol.get_name()} if symbol.is_assigned() else set()
    return read, bound


def from_solution(trees: list[ast.AST]) -> set[str]:
    """The names that tests import from `solution`, or take of it as a module."""
    found = set()
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "solution":
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "solution":
                found.add(node.attr)
    return found


def handed_to_checks(trees: list[ast.Module]) -> set[str]:
    """Names read only within `def check(candidate)`: the candidate is handed over, so that they are helpers of the row's."""
    inside: set[str] = set()
    outside: set[str] = set()
    for statement in (node for tree in trees for node in tree.body):
        handed = isinstance(statement, ast.FunctionDef) and [a.arg for a in statement.args.args][:1] == ["candidate"]
        (inside if handed else outside).update(n.id for n in ast.walk(statement) if isinstance(n, ast.Name))
    return inside - outside


def tested_builtin(asserts: list[ast.AST], names: set[str]) -> set[str]:
    """The one function that is tested although it has a builtin's name: named in each test, and innermost where several are."""
    each = [{n.id for n in ast.walk(tree) if isinstance(n, ast.Name)} for tree in asserts]
    common = set.intersection(*each) & names if each else set()
    if len(common) > 1:
        outer = {
            node.func.id
            for tree in asserts
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            if any(isinstance(n, ast.Call) and n is not node for n in ast.walk(node))
        }
        common -= outer
    return common if len(common) == 1 else set()
