"""The rooms of the house: who may import whom, read from the imports themselves, and that every file says what it is."""

import ast
import functools
from pathlib import Path

import pytest
from conftest import REPO

# from the top: a file imports from its own room and from lower floors; commands stand on the first
FLOORS = (
    {"recipes"},
    {"recipes.pipeline"},
    {"recipes.preflight"},
    {"recipes.measuring"},
    {"recipes.shared"},
    {"rewards", "rewards._math", "rewards._sandbox", "data"},
)
LAST = FLOORS[-1]
COMMANDS = {"data.inspect"}  # they stand on the first floor, wherever their file lies: nobody imports them
PACKAGES = ("recipes", "rewards", "data")
FILES = sorted(
    path for package in PACKAGES for path in Path(REPO, package).rglob("*.py") if "configs" not in path.parts
)


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(REPO).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


def room_of(module: str) -> str:
    return module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]


@functools.cache
def imports_of(module: str) -> dict[str, list[str]]:
    """The modules of this repository that a file imports, anywhere in it, and all top-level packages."""
    ours, packages = [], []
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{MODULES[module]}: imports are written in full"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            packages.append(name.partition(".")[0])
            known = [name, name.rpartition(".")[0], name.partition(".")[0]]
            ours += [next(n for n in known if n in MODULES)] if packages[-1] in PACKAGES else []
    return {"ours": ours, "packages": packages}


def floor_of(room: str) -> int:
    return next(n for n, rooms in enumerate(FLOORS) if room in rooms)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down_only(module):
    room = "recipes" if module in COMMANDS else room_of(module)
    for name in imports_of(module)["ours"]:
        assert name not in COMMANDS, f"{module}: {name}"
        other = room_of(name)
        if name == "recipes":
            continue  # what every command sets before any library loads
        same_package = room.partition(".")[0] == other.partition(".")[0]
        assert room == other or floor_of(other) > floor_of(room) or (room in LAST and same_package), f"{module}: {name}"


def test_no_import_goes_in_a_circle():
    done, path = set(), []

    def visit(module):
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            path.append(module)
            for name in imports_of(module)["ours"]:
                if name != module and name not in PACKAGES:
                    visit(name)
            path.pop()
            done.add(module)

    for module in MODULES:
        visit(module)


@pytest.mark.parametrize("package", ["rewards", "data"])
def test_rewards_and_data_load_without_trainers_and_each_other(package):
    """Rewards serve any trainer, and both load in well under a second."""
    forbidden = {"recipes", "rewards", "data"} - {package} | {"torch", "trl", "transformers"}
    for module in MODULES:
        if module.partition(".")[0] == package and module not in COMMANDS:
            assert not set(imports_of(module)["packages"]) & forbidden, module


def test_the_floor_of_recipes_holds_only_what_one_runs():
    for path in Path(REPO, "recipes").glob("*.py"):
        if path.name != "__init__.py":
            assert not path.name.startswith("_") and 'if __name__ == "__main__":' in path.read_text(), path


@pytest.mark.parametrize("module", MODULES)
def test_every_file_says_what_it_is(module):
    """The first line is one sentence, which ends there or in the paragraph."""
    text = ast.get_docstring(ast.parse(MODULES[module].read_text()))
    assert text and text.split("\n\n")[0].rstrip().endswith((".", ":", "?")), MODULES[module]
