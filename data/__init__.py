"""Datasets as prompts: data/<name>.py is also the YAML key, a hub name or a local file works wherever a name does.

Each module has SPLITS, a pure `to_row(raw) -> dict` and `load(split, **options) -> Dataset`. One that reads files also
has COLUMNS, the raw columns that `to_row` needs, or a list of such shapes: by them a file or a hub set of the same shape
is recognised. HUB is the one hub set that the module's name stands for; `features(raw)` gives the types of rows that may
hold None.
"""

import difflib
import importlib
import inspect
import pkgutil
from pathlib import Path

from datasets import Dataset

from data import _source, _templates


def names() -> list[str]:
    """Every dataset there is: the modules of this folder, but for those whose name starts with an underscore."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def is_file(name: str) -> bool:
    """Whether `name` is a local file, which holds one split. Raises ValueError when it is one that isn't there."""
    return _source.local_file(name) is not None


def check(name: str, split: str | None = None, **options) -> None:
    """Raises ValueError for what `load` would refuse by name: a set, a split or an option that isn't there. Reads nothing."""
    if Path(name).suffix in _source.FORMATS:
        return  # a file, which need not be there yet
    module = _named(name)
    if module is None and "/" not in name:
        raise ValueError(f"dataset {name!r} is unknown: {_nearest(name, names())}, a local .jsonl file, or a hub name")
    if module is not None:
        if split is not None:
            _check(name, split, module.SPLITS)
        known = [p for p in inspect.signature(module.load).parameters if p != "split"]
        if unknown := [option for option in options if option not in known]:
            raise ValueError(f"dataset {name!r} has no option {unknown[0]!r}: {_nearest(unknown[0], known)}")


def load(name: str, split: str = "train", *, template: str | None = "chat", **options) -> Dataset:
    """Rows of TRL's prompt-only, prompt-completion or preference format, in the dataset's own order.

    name: a module of this package; a local .jsonl or .parquet file; or a hub name such as "openai/gsm8k".
    split: one of the dataset's SPLITS. A file holds one split, and is read whole whichever is named.
    template: how a question becomes a prompt (data/_templates.py): "chat" gives messages, the others give text, and None
        leaves the messages as they are.
    options: what the module's own `load` takes; with any other hub name, `config`, for a set that has several.
    Raises ValueError for an unknown name, split, template or option, for missing columns, and for a set without rows.
    """
    if template is not None and template not in _templates.TEMPLATES:
        raise ValueError(f"template {template!r} is unknown: {_nearest(template, _templates.TEMPLATES)}")
    path = _source.local_file(name)
    module = _named(name)
    check(name, split, **options)
    if module is not None:
        rows = module.load(split, **options)
    else:
        config = options.pop("config", None) if path is None else None
        if options:
            raise ValueError(f"dataset {name!r} is read as it is, and takes no option {next(iter(options))!r}")
        raw = _source.read(path or name, split, config)
        module = _fitting(name, raw.column_names)
        _check(name, split, module.SPLITS)
        types = module.features(raw.features) if hasattr(module, "features") else None
        rows = _source.to_rows(raw, module.to_row, types)
    if len(rows) == 0:
        raise ValueError(f"dataset {name!r}, split {split!r}, has no rows")
    if template is None:
        return rows
    types = _templates.features(rows.features, template)
    return _source.mapped(rows, _templates.render, fn_kwargs={"template": template}, features=types)


def _named(name: str):
    """The module of that name, or of that hub set; None when there is neither."""
    if name in names():
        return _module(name)
    return next((m for m in map(_module, names()) if getattr(m, "HUB", None) == name), None)


def _check(name: str, split: str, splits: tuple[str, ...]) -> None:
    if split not in splits:
        raise ValueError(f"split {split!r} of dataset {name!r} is unknown: {_nearest(split, splits)}")


def _fitting(name: str, columns: list[str]):
    """The module whose raw rows have this dataset's columns; of several, the one that needs the most of them."""
    shapes = [(n, shape) for n in names() for shape in _shapes(_module(n))]
    fits = [(n, shape) for n, shape in shapes if set(shape) <= set(columns)]
    best = sorted({n for n, shape in fits if len(shape) == max(len(s) for _, s in fits)})
    if len(best) == 1:
        return _module(best[0])
    if best:
        raise ValueError(f"dataset {name!r} has the columns of several sets: {', '.join(best)}. Leave those of one")
    # a shape that only adds to another of its module is no other way to be read
    shapes = [(n, s) for n, s in shapes if not any(n == m and set(o) < set(s) for m, o in shapes)]
    nearest, shape = max(shapes, key=lambda fit: len(set(fit[1]) & set(columns)))
    missing = ", ".join(c for c in shape if c not in columns)
    needs = "; ".join(f"{n} needs {', '.join(shape)}" for n, shape in shapes)
    raise ValueError(
        f"dataset {name!r} has the columns {', '.join(columns) or 'none'}: "
        f"nearest is {nearest}, without {missing} ({needs})"
    )


def _shapes(module) -> list[tuple[str, ...]]:
    columns = getattr(module, "COLUMNS", [])
    return columns if isinstance(columns, list) else [columns]


def _module(name: str):
    return importlib.import_module(f"data.{name}")


def _nearest(value: str, known) -> str:
    near = difflib.get_close_matches(value, list(known), n=1)
    return (f"did you mean {near[0]!r}? " if near else "") + f"there are {', '.join(known) or 'none'}"
