"""What a row gives to every program before its first line: imports, classes such as ListNode, helper functions.

A program finds these names where it finds the builtins: it may define any of them anew, and what it has defined itself
can be told from what it was given.
"""

import builtins
import importlib
import types

# the names of these modules that Python solutions use without importing them, as LeetCode lets them; the last one wins
USUAL = ("typing", "math", "itertools", "functools", "heapq", "bisect", "re", "collections")


def usual_names() -> dict[str, object]:
    modules = {name: importlib.import_module(name) for name in USUAL}
    found = {n: getattr(m, n) for m in modules.values() for n in public_names(m) if not hasattr(builtins, n)}
    return found | modules


def public_names(module: types.ModuleType) -> list[str]:
    return list(getattr(module, "__all__", None) or (n for n in vars(module) if not n.startswith("_")))


# made once, before the forks
BUILTINS = vars(builtins)
WITH_USUAL = BUILTINS | usual_names()


def run(source: str, namespace: dict[str, object], usual: bool = True) -> dict[str, object]:
    """Run a prelude, and let `namespace`, which a program is to run in, fall back to its names. Returns them."""
    given: dict[str, object] = {}
    if source:
        given |= {"__name__": "prelude", "__builtins__": WITH_USUAL if usual else BUILTINS}
        exec(compile(source, "prelude.py", "exec"), given)
        given = {n: v for n, v in given.items() if not n.startswith("__")}
    if given or usual:
        fallback = WITH_USUAL if usual else dict(BUILTINS)
        fallback.update(given)  # of this process: a copy would touch, and so copy, the memory of every name
        namespace["__builtins__"] = fallback
    return given
