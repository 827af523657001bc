"""Datasets as prompts: data/<name>.py is also the YAML key, a hub name or a local file works wherever a name does.

A module of a set on the hub has HUB, its name there; SPLITS; COLUMNS, the raw columns that it needs, or a list of such shapes;
a pure `to_row(raw) -> dict`, and GIVES, the types of what that gives. It may have CONFIG, REVISION (a commit), FILES
({split: its files}, where the hub doesn't know splits), and `select(raw, **options)`, the raw rows that its own options leave.
A module that makes its rows has SPLITS, `to_row` and `load(split, **options) -> Dataset`.
By COLUMNS, and by `fits(rows)` where they say too little, a file or a hub set of the same shape is recognised, unless the module is
ONLY_BY_NAME, since others have its columns too; all others are read by data/_user_rows.py. `features(raw)` gives types that depend on the raw ones, and `why(row)` what a row lacks, which becomes its
column `unreadable`. Every set takes the options of OPTIONS, and a list of sets is a mixture (data/_mixture.py).
"""

import difflib
import importlib
import os
import pkgutil
import sys
from inspect import signature
from pathlib import Path

os.environ.setdefault("TQDM_DELAY", "2")  # read on import: progress bars are for what takes longer, on a terminal
if not sys.stderr.isatty():
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")

from datasets import Dataset, Features, Value

from data import _mixture, _overlap, _pass_rate, _rows, _source, _templates, _user_rows

COMMANDS = ("inspect",)  # files of this folder that are run, not loaded
# what every set takes, and what those on the hub take as well
OPTIONS = {"pass_rate": _pass_rate.check, "decontaminate": _overlap.check}
OF_HUB = ("path", "revision", "config")
TEMPLATES = tuple(_templates.TEMPLATES)
NOT_OF_THE_SHAPE = AttributeError, KeyError, IndexError, TypeError, ValueError, SyntaxError, RecursionError


def names() -> list[str]:
    """Every dataset there is: the modules of this folder, but for its commands and those whose name starts with an underscore."""
    found = (m.name for m in pkgutil.iter_modules(__path__))
    return sorted(name for name in found if not name.startswith("_") and name not in COMMANDS)


def is_file(name: str | list) -> bool:
    """Whether `name` is a local file, which holds one split. Raises ValueError when it is one that isn't there."""
    return isinstance(name, str) and _source.local_file(name) is not None


def splits(name: str | list) -> tuple[str, ...]:
    """The splits of a module's set; () of any other, of which they aren't known before it is read."""
    module = _named(name) if isinstance(name, str) and Path(name).suffix not in _source.FORMATS else None
    return tuple(module.SPLITS) if module is not None else ()


def named(name: str | list) -> str:
    """A dataset in words: its name, or those of a mixture."""
    return name if isinstance(name, str) else " + ".join(str(part.get("name")) for part in name)


def check(name: str | list, split: str | None = None, columns: dict[str, str] | None = None, **options) -> None:
    """Raises ValueError for what `load` would refuse by name: a set, a split or an option that isn't there. Reads nothing."""
    if not isinstance(name, str):
        _mixture.check(name, columns, options, OPTIONS)
        common = {option: value for option, value in options.items() if option in OPTIONS}
        for part in name:
            own = common | (part.get("options") or {})
            check(part["name"], part.get("split") or split, part.get("columns"), **own)
        return
    for option, value in options.items():
        if option in OPTIONS:
            OPTIONS[option](value)
    for other, of in map(_overlap.parsed, options.get("decontaminate") or []):
        check(other, of)
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
        known = [*_own_options(module), *OPTIONS]
        if unknown := [option for option in options if option not in known]:
            raise ValueError(f"dataset {name!r} has no option {unknown[0]!r}: {_nearest(unknown[0], known)}")


def load(name: str | list, split: str = "train", *, template: str | None = "chat", columns=None, **options) -> Dataset:
    """Rows of TRL's prompt-only, prompt-completion or preference format, in the dataset's own order.

    name: a module of this package; a local .jsonl, .json, .csv or .parquet file; a hub name such as "openai/gsm8k"; or a list
        of these, a mixture.
    split: one of the dataset's SPLITS. A file holds one split, and all of it is read whichever is named.
    template: how a question becomes a prompt (data/_templates.py): "chat" gives messages, the others give text, and None
        leaves the messages as they are.
    columns: {ours: theirs}, such as {"answer": "my_gold"}, of a file or a hub set; what it doesn't name is found by name.
    options: what the module itself takes; with a set of the hub `path`, a file or folder that holds a copy, `revision` and
        `config`; with any, `pass_rate: [0.1, 0.9]` and `decontaminate: [math500, file.jsonl]`.
    Raises ValueError for an unknown name, split, template or option, for missing columns, and for a set without rows.
    """
    return read(name, split, template=template, columns=columns, **options)[0]


def read(name: str | list, split: str = "train", *, template: str | None = "chat", columns=None, **options):
    """What `load` gives, and how the rows were read, in words."""
    if template is not None and template not in _templates.TEMPLATES:
        raise ValueError(f"template {template!r} is unknown: {_nearest(template, _templates.TEMPLATES)}")
    check(name, split, columns, **options)
    if isinstance(name, str):
        rows, how = _read_one(name, split, columns, **options)
    else:
        rows, how = _mixture.mix(name, split, _read_one, **options)
    return rendered(rows, template), how


def rendered(rows: Dataset, template: str | None) -> Dataset:
    """Rows that were read with `template=None`, in a template."""
    if template is None:
        return rows
    types = _templates.features(rows.features, template)
    return _source.mapped(rows, _templates.render, fn_kwargs={"template": template}, features=types)


def _read_one(name: str, split: str, columns: dict | None = None, *, pass_rate=None, decontaminate=None, **options):
    module = None if columns and "/" in name else _named(name)
    if module is None:
        rows, how = _read_as_it_is(name, split, columns, **options)
    else:
        rows, how = _of_module(module, split, **options)
    if len(rows) == 0:
        raise ValueError(f"dataset {name!r}, split {split!r}, has no rows")
    before = len(rows)
    if pass_rate is not None:
        rows, said = _pass_rate.within(name, rows, *pass_rate)
        how += f", {said}"
    if decontaminate:
        others = [(other, load(*_overlap.parsed(other), template=None)) for other in decontaminate]
        rows, said = _overlap.without(rows, others)
        how += f", {said}"
    if len(rows) == 0:
        raise ValueError(f"dataset {name!r}, split {split!r}: no row is left of {before:,} ({how})")
    return rows, how


def _of_module(module, split: str, *, path: str | None = None, revision=None, config=None, **options):
    how = f"data/{_name_of(module)}.py"
    if hasattr(module, "load"):
        return module.load(split, **options), how
    raw = _source.read_copy(path, split) if path else _source.read_set(module, split, revision, config)
    shapes = _shapes(module)
    if not any(set(shape) <= set(raw.column_names) for shape in shapes):
        lacks = [c for c in shapes[0] if c not in raw.column_names]
        raise ValueError(
            f"dataset {path or module.HUB!r} has the columns {', '.join(raw.column_names)}, and data/{_name_of(module)}.py needs "
            f"{', '.join(lacks)} too: is it another set, or another of its forms?"
        )
    before = len(raw)
    raw = module.select(raw, **options) if hasattr(module, "select") else raw
    how += f", {len(raw):,} of its {before:,} rows" if len(raw) < before else ""
    types = module.features(raw.features) if hasattr(module, "features") else module.GIVES
    return _rows_of(raw, {"module": _name_of(module), "roles": None}, types), how


def _read_as_it_is(name: str, split: str, columns: dict | None, **options) -> tuple[Dataset, str]:
    """The rows of a file or a hub set, with all their other columns, and how they were read."""
    path = _source.local_file(name)
    hub = {key: options.pop(key, None) for key in ("config", "revision") if path is None}
    copy = options.pop("path", None) if path is None else None
    if options:
        raise ValueError(f"dataset {name!r} is read as it is, and takes no option {next(iter(options))!r}")
    text = _user_rows.TEXT | {theirs for ours, theirs in (columns or {}).items() if ours in _user_rows.NAMES}
    raw = _source.read_copy(copy, split) if copy else _source.read(path or name, split, text=text, **hub)
    if len(raw) == 0:
        raise ValueError(f"dataset {name!r}, split {split!r}, has no rows")
    raw = _user_rows.renamed(name, raw, columns) if columns else raw
    module, shape = _fitting(name, raw.column_names)
    first = raw.select(range(min(len(raw), _user_rows.LOOKED_AT)))
    if hasattr(module, "fits") and not module.fits(first):
        module = None
    if module is not None:
        raw = module.select(raw) if hasattr(module, "select") else raw
        roles, how = None, _name_of(module)
        types = module.features(raw.features) if hasattr(module, "features") else getattr(module, "GIVES", None)
        taken = set(shape)
    else:
        roles = _user_rows.roles_of(name, raw)
        how, types = _user_rows.described(roles), _user_rows.features(roles)
        taken = {path for role, path in roles.items() if role != "answer"}
    rows = _rows_of(raw, {"module": module and how, "roles": roles}, types)
    others = [c for c in raw.column_names if c not in taken and c not in (*rows.column_names, _source.UNREADABLE)]
    return _source.beside(rows, raw.select_columns(others)), how + (
        f", and with it {', '.join(others)}" if others else ""
    )


def _rows_of(raw: Dataset, reader: dict, types: Features | None) -> Dataset:
    """What the reader makes of each raw row; `unreadable` says what a row lacks, and isn't there where none lacks anything."""
    if types is not None:
        types = Features(types | {_source.UNREADABLE: Value("string")})
    rows = _source.mapped(raw, _row, fn_kwargs=reader, features=types, remove_columns=raw.column_names)
    if _source.UNREADABLE in rows.column_names and not any(rows[_source.UNREADABLE]):
        rows = rows.remove_columns(_source.UNREADABLE)
    return rows


def _row(raw: dict, module: str | None, roles: dict[str, str] | None) -> dict:
    reader = _module(module) if module else _user_rows
    try:
        row = reader.to_row(raw) if module else reader.to_row(raw, roles)
        lack = raw.get(_source.UNREADABLE) or getattr(reader, "why", _rows.why)(row)
    except NOT_OF_THE_SHAPE as error:  # a cell of another type than the set's, in this row
        row = dict.fromkeys(getattr(reader, "GIVES", ())) | {"prompt": []}
        said = (
            str(error)
            if isinstance(error, _rows.Unreadable)
            else f"a cell of another type ({type(error).__name__}: {error})"
        )
        lack = raw.get(_source.UNREADABLE) or said
    return row | {_source.UNREADABLE: lack}


def _named(name: str):
    """The module of that name, or of that hub set; None when there is neither. Raises ValueError where several read that set."""
    if name in names():
        return _module(name)
    found = [m for m in map(_module, names()) if getattr(m, "HUB", None) == name]
    if len(found) > 1:
        raise ValueError(
            f"dataset {name!r} is read by {' and by '.join(map(_name_of, found))}: name the one that is meant"
        )
    return found[0] if found else None


def _own_options(module) -> list[str]:
    """The options that a module's own functions take, and of a set on the hub those that say where it is."""
    if hasattr(module, "load"):
        return [p for p in signature(module.load).parameters if p != "split"]
    own = signature(module.select).parameters if hasattr(module, "select") else ()
    return [*(p for p in own if p != "raw"), *OF_HUB]


def _check(name: str, split: str, splits: tuple[str, ...]) -> None:
    if split not in splits:
        raise ValueError(f"split {split!r} of dataset {name!r} is unknown: {_nearest(split, splits)}")


def _fitting(name: str, columns: list[str]):
    """The module whose raw rows have these columns, and the shape; of several, the one that needs the most of them.

    (None, ()) where they are of no such shape. Raises ValueError where they are of several.
    """
    shapes = [(n, shape) for n in names() for shape in _recognised(n) if set(shape) <= set(columns)]
    longest = max((len(shape) for _, shape in shapes), default=0)
    best = {n: shape for n, shape in shapes if len(shape) == longest}
    if len(best) > 1:
        raise ValueError(f"dataset {name!r} has the columns of several sets: {', '.join(best)}. Leave those of one")
    return (_module(next(iter(best))), *best.values()) if best else (None, ())


def _recognised(name: str) -> list[tuple[str, ...]]:
    module = _module(name)
    return [] if getattr(module, "ONLY_BY_NAME", False) else _shapes(module)


def _shapes(module) -> list[tuple[str, ...]]:
    columns = getattr(module, "COLUMNS", [])
    return columns if isinstance(columns, list) else [columns]


def _module(name: str):
    return importlib.import_module(f"data.{name}")


def _name_of(module) -> str:
    return module.__name__.rpartition(".")[2]


def _nearest(value: str, known) -> str:
    near = difflib.get_close_matches(value, list(known), n=1)
    return (f"did you mean {near[0]!r}? " if near else "") + f"there are {', '.join(known) or 'none'}"
