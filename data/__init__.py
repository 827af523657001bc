"""Datasets as prompts: data/<name>.py is also the YAML key, a hub name or a local file works wherever a name does.

Each module has SPLITS, a pure `to_row(raw) -> dict` and `load(split, **options) -> Dataset`. One that reads files also
has COLUMNS, the raw columns that `to_row` needs, or a list of such shapes: by them, and by `fits(rows)` where columns say too
little, a file or a hub set of the same shape is recognised; all others are read by data/_user_rows.py. HUB is the one hub
set that the module's name stands for; `features(raw)` gives the types of rows that may hold None, and `why(row)` what such a
row lacks, which becomes its column `unreadable`.
"""

import difflib
import importlib
import inspect
import pkgutil
from pathlib import Path

from datasets import Dataset, Features, Value

from data import _source, _templates, _user_rows


def names() -> list[str]:
    """Every dataset there is: the modules of this folder, but for those whose name starts with an underscore."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def is_file(name: str) -> bool:
    """Whether `name` is a local file, which holds one split. Raises ValueError when it is one that isn't there."""
    return _source.local_file(name) is not None


def check(name: str, split: str | None = None, columns: dict[str, str] | None = None, **options) -> None:
    """Raises ValueError for what `load` would refuse by name: a set, a split or an option that isn't there. Reads nothing."""
    if Path(name).suffix in _source.FORMATS:
        return  # a file, which need not be there yet
    module = None if columns and "/" in name else _named(name)
    if module is None and "/" not in name:
        raise ValueError(
            f"dataset {name!r} is unknown: {_nearest(name, names())}, a local file ({' '.join(_source.FORMATS)}), or a hub name"
        )
    if module is not None:
        if columns:
            raise ValueError(
                f"columns: {name!r} is data/{name}.py, which reads its own; they are for files and hub sets"
            )
        if split is not None:
            _check(name, split, module.SPLITS)
        known = [p for p in inspect.signature(module.load).parameters if p != "split"]
        if unknown := [option for option in options if option not in known]:
            raise ValueError(f"dataset {name!r} has no option {unknown[0]!r}: {_nearest(unknown[0], known)}")


def load(name: str, split: str = "train", *, template: str | None = "chat", columns=None, **options) -> Dataset:
    """Rows of TRL's prompt-only, prompt-completion or preference format, in the dataset's own order.

    name: a module of this package; a local .jsonl, .json, .csv or .parquet file; or a hub name such as "openai/gsm8k".
    split: one of the dataset's SPLITS. A file holds one split, and all of it is read whichever is named.
    template: how a question becomes a prompt (data/_templates.py): "chat" gives messages, the others give text, and None
        leaves the messages as they are.
    columns: {ours: theirs}, such as {"answer": "my_gold"}, of a file or a hub set; what it doesn't name is found by name.
    options: what the module's own `load` takes; with any other hub name, `config`, for a set that has several.
    Raises ValueError for an unknown name, split, template or option, for missing columns, and for a set without rows.
    """
    return read(name, split, template=template, columns=columns, **options)[0]


def read(name: str, split: str = "train", *, template: str | None = "chat", columns=None, **options):
    """What `load` gives, and how the rows were read, in words."""
    if template is not None and template not in _templates.TEMPLATES:
        raise ValueError(f"template {template!r} is unknown: {_nearest(template, _templates.TEMPLATES)}")
    path = _source.local_file(name)
    check(name, split, columns, **options)
    module = None if columns and "/" in name else _named(name)
    if module is not None:
        rows, how = module.load(split, **options), f"data/{module.__name__.rpartition('.')[2]}.py"
    else:
        config = options.pop("config", None) if path is None else None
        if options:
            raise ValueError(f"dataset {name!r} is read as it is, and takes no option {next(iter(options))!r}")
        text = _user_rows.TEXT | {theirs for ours, theirs in (columns or {}).items() if ours in _user_rows.NAMES}
        raw = _source.read(path or name, split, config, text)
        if len(raw) == 0:
            raise ValueError(f"dataset {name!r}, split {split!r}, has no rows")
        rows, how = _as_it_is(name, _user_rows.renamed(name, raw, columns) if columns else raw)
    if len(rows) == 0:
        raise ValueError(f"dataset {name!r}, split {split!r}, has no rows")
    if template is None:
        return rows, how
    types = _templates.features(rows.features, template)
    return _source.mapped(rows, _templates.render, fn_kwargs={"template": template}, features=types), how


def _as_it_is(name: str, raw: Dataset) -> tuple[Dataset, str]:
    """The rows of a file or a hub set, with all their other columns, and how they were read."""
    module, shape = _fitting(name, raw.column_names)
    first = raw.select(range(min(len(raw), _user_rows.LOOKED_AT)))
    if hasattr(module, "fits") and not module.fits(first):
        module = None
    if module is not None:
        roles, how = None, module.__name__.rpartition(".")[2]
        types = module.features(raw.features) if hasattr(module, "features") else None
        taken, unread = set(shape), hasattr(module, "why")
    else:
        roles = _user_rows.roles_of(name, raw)
        how, types, unread = _user_rows.described(roles), _user_rows.features(roles), True
        taken = {path for role, path in roles.items() if role != "answer"}
    if unread:
        types = Features((types or {}) | {"unreadable": Value("string")})
    fn_kwargs = {"module": module and how, "roles": roles}
    rows = _source.mapped(raw, _row, fn_kwargs=fn_kwargs, features=types, remove_columns=raw.column_names)
    if unread and not any(rows["unreadable"]):
        rows = rows.remove_columns("unreadable")
    others = [c for c in raw.column_names if c not in taken and c not in rows.column_names]
    return _source.beside(rows, raw.select_columns(others)), how + (
        f", and with it {', '.join(others)}" if others else ""
    )


def _row(raw: dict, module: str | None, roles: dict[str, str] | None) -> dict:
    reader = _module(module) if module else _user_rows
    row = reader.to_row(raw) if module else reader.to_row(raw, roles)
    return row | ({"unreadable": reader.why(row)} if hasattr(reader, "why") else {})


def _named(name: str):
    """The module of that name, or of that hub set; None when there is neither."""
    if name in names():
        return _module(name)
    return next((m for m in map(_module, names()) if getattr(m, "HUB", None) == name), None)


def _check(name: str, split: str, splits: tuple[str, ...]) -> None:
    if split not in splits:
        raise ValueError(f"split {split!r} of dataset {name!r} is unknown: {_nearest(split, splits)}")


def _fitting(name: str, columns: list[str]):
    """The module whose raw rows have these columns, and the shape; of several, the one that needs the most of them.

    (None, ()) where they are of no such shape. Raises ValueError where they are of several.
    """
    shapes = [(n, shape) for n in names() for shape in _shapes(_module(n)) if set(shape) <= set(columns)]
    longest = max((len(shape) for _, shape in shapes), default=0)
    best = {n: shape for n, shape in shapes if len(shape) == longest}
    if len(best) > 1:
        raise ValueError(f"dataset {name!r} has the columns of several sets: {', '.join(best)}. Leave those of one")
    return (_module(next(iter(best))), *best.values()) if best else (None, ())


def _shapes(module) -> list[tuple[str, ...]]:
    columns = getattr(module, "COLUMNS", [])
    return columns if isinstance(columns, list) else [columns]


def _module(name: str):
    return importlib.import_module(f"data.{name}")


def _nearest(value: str, known) -> str:
    near = difflib.get_close_matches(value, list(known), n=1)
    return (f"did you mean {near[0]!r}? " if near else "") + f"there are {', '.join(known) or 'none'}"
