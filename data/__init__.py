"""Datasets as prompts: data/<name>.py is also the YAML key, a hub name or a local file works wherever a name does.

Each module has SPLITS, a pure `to_row(raw) -> dict` and `load(split, **options) -> Dataset`. One that reads files also
has HUB, the set on the hub, and COLUMNS, the raw columns that `to_row` needs: by them a file of the same shape is
recognised.
"""

import difflib
import importlib
import inspect
import pkgutil

from datasets import Dataset

from data import _source
from data._templates import TEMPLATES, render


def names() -> list[str]:
    """Every dataset there is: the modules of this folder, but for those whose name starts with an underscore."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def load(name: str, split: str = "train", *, template: str = "chat", **options) -> Dataset:
    """Rows of TRL's prompt-only or prompt-completion format, in the dataset's own order.

    name: a module of this package; a local .jsonl or .parquet file; or a hub name such as "openai/gsm8k".
    split: one of the dataset's SPLITS. A file holds one split, and is read whole whichever is named.
    template: how a question becomes a prompt (data/_templates.py): "chat" gives messages, the others give text.
    options: what the module's own `load` takes.
    Raises ValueError for an unknown name, split, template or option, for missing columns, and for a set without rows.
    """
    if template not in TEMPLATES:
        raise ValueError(f"template {template!r} is unknown: {_nearest(template, TEMPLATES)}")
    path = _source.local_file(name)
    module = _named(name)
    if path is None and module is None and "/" not in name:
        raise ValueError(f"dataset {name!r} is unknown: {_nearest(name, names())}, a local .jsonl file, or a hub name")
    if module is not None:
        _check(name, split, module.SPLITS)
        known = [p for p in inspect.signature(module.load).parameters if p != "split"]
        if unknown := [option for option in options if option not in known]:
            raise ValueError(f"dataset {name!r} has no option {unknown[0]!r}: {_nearest(unknown[0], known)}")
        rows = module.load(split, **options)
    else:
        if options:
            raise ValueError(f"dataset {name!r} is read as it is, and takes no option {next(iter(options))!r}")
        raw = _source.read(path or name, split)
        module = _fitting(name, raw.column_names)
        _check(name, split, module.SPLITS)
        rows = _source.to_rows(raw, module.to_row)
    if len(rows) == 0:
        raise ValueError(f"dataset {name!r}, split {split!r}, has no rows")
    return rows.map(render, fn_kwargs={"template": template})


def _named(name: str):
    """The module of that name, or of that hub set; None when there is neither."""
    if name in names():
        return _module(name)
    return next((m for m in map(_module, names()) if getattr(m, "HUB", None) == name), None)


def _check(name: str, split: str, splits: tuple[str, ...]) -> None:
    if split not in splits:
        raise ValueError(f"split {split!r} of dataset {name!r} is unknown: {_nearest(split, splits)}")


def _fitting(name: str, columns: list[str]):
    """The module whose raw rows have this file's columns."""
    shapes = {n: m.COLUMNS for n in names() if hasattr(m := _module(n), "COLUMNS")}
    fits = [n for n, needed in shapes.items() if set(needed) <= set(columns)]
    if len(fits) == 1:
        return _module(fits[0])
    nearest = max(shapes, key=lambda n: len(set(shapes[n]) & set(columns)))
    missing = ", ".join(sorted(set(shapes[nearest]) - set(columns)))
    needs = "; ".join(f"{n} needs {', '.join(c)}" for n, c in shapes.items())
    raise ValueError(
        f"dataset {name!r} has the columns {', '.join(columns) or 'none'}: nearest is {nearest}, without {missing} ({needs})"
        if not fits
        else f"dataset {name!r} has the columns of several sets: {', '.join(fits)}"
    )


def _module(name: str):
    return importlib.import_module(f"data.{name}")


def _nearest(value: str, known) -> str:
    near = difflib.get_close_matches(value, list(known), n=1)
    return (f"did you mean {near[0]!r}? " if near else "") + f"there are {', '.join(known) or 'none'}"
