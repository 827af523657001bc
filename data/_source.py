"""Raw rows from a local file or from the hub."""

import json
import logging
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from datasets import Dataset, Features, concatenate_datasets, load_dataset
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from datasets.fingerprint import Hasher

# they print what is raised in the end: a file that can't be read, and each try to reach the hub
for name in ("datasets.packaged_modules.json.json", "huggingface_hub.utils._http"):
    logging.getLogger(name).setLevel(logging.CRITICAL)
COMMIT = re.compile(r"/([0-9a-f]{40})(?=/)")  # of the hub, in the path of a cache
FORMATS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}
CSV = {"keep_default_na": False, "na_values": [""]}  # NA, null and nan are words; an empty cell is None
FIELDS = 2000  # of a row, columns and those inside of them: a column each in Arrow, whose time and memory they take
WRITTEN_AT_ONCE = 100  # rows: livecodebench's are of many MB
UNREADABLE = "unreadable"  # the column that says why a row can't be read; None for the others


def local_file(name: str) -> Path | None:
    """The file that `name` means, or None when it is no path. Raises ValueError when it is one that isn't there."""
    path = Path(name).expanduser()
    if path.suffix not in FORMATS:
        return None
    if not path.is_file():
        raise ValueError(f"dataset {name!r}: there is no such file")
    return path


def read(source: str | Path, split: str, config: str | None = None, text: set[str] = frozenset(), **hub) -> Dataset:
    """Raw rows of a file, or of one split of a hub set; of a .csv, the columns named in `text` as they are written.

    hub: what else load_dataset takes, `revision` or `data_files`. Lines of a .jsonl that aren't rows become rows of None, with the
    reason in `unreadable`. Raises ValueError when there is nothing to read.
    """
    return _read_file(source, text) if isinstance(source, Path) else _read_hub(source, split, config, **hub)


def read_set(module, split: str, revision: str | None, config: str | None) -> Dataset:
    """Raw rows of a module's set on the hub. Raises ValueError when they can't be had."""
    revision = revision or getattr(module, "REVISION", None)
    if not hasattr(module, "FILES"):
        splits = getattr(module, "HUB_SPLITS", {})
        return _read_hub(
            module.HUB, splits.get(split, split), config or getattr(module, "CONFIG", None), revision=revision
        )
    at = f"hf://datasets/{module.HUB}@{revision}/" if revision else f"hf://datasets/{module.HUB}/"
    files = [at + file for file in module.FILES[split]]
    return _read_hub(FORMATS[Path(files[0]).suffix], "train", None, data_files=files)


def read_copy(path: str, split: str) -> Dataset:
    """Raw rows of a local copy of a set: a file, or one split of a folder. Raises ValueError when there is none."""
    if (file := local_file(path)) is not None:
        return _read_file(file, frozenset())
    if not (folder := Path(path).expanduser()).is_dir():
        raise ValueError(f"path={path!r}: there is no such file or folder")
    try:
        return load_dataset(str(folder), split=split)
    except (DatasetNotFoundError, DatasetGenerationError, OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"path={path!r}: split {split!r} can't be read ({str(error).splitlines()[0]})") from error


def _read_file(source: Path, text: set[str]) -> Dataset:
    if source.stat().st_size == 0:
        raise ValueError(f"dataset '{source}' has no rows: the file is empty")
    options = CSV | {"converters": dict.fromkeys(text, str)} if source.suffix == ".csv" else {}
    try:
        if source.suffix != ".parquet" and _widest(source) > 100 * FIELDS:
            raise ValueError("a row has too many fields")
        rows = load_dataset(FORMATS[source.suffix], data_files=str(source), split="train", **options)
    # ValueError: pyarrow's, of a text that isn't UTF-8 and of a number that is too long
    except (DatasetGenerationError, ValueError, OSError, RecursionError) as error:
        if "corresponds to no data" in str(error):
            raise ValueError(f"dataset '{source}' has no rows") from error
        rows = _read_by_line(source) if source.suffix == ".jsonl" else None
        if rows is None:
            reason = str(error.__cause__ or error).splitlines()[0]
            raise ValueError(f"dataset '{source}' can't be read as {source.suffix}: {reason}") from error
    if any(column.startswith("__index_level_") for column in rows.column_names):
        raise ValueError(f"dataset '{source}' can't be read as .csv: its rows have more cells than its header")
    return rows


def _widest(source: Path) -> int:
    """The most fields that a row of a .jsonl can have, at a glance: how often a name's end stands in a line.

    Raises UnicodeDecodeError where a file of text isn't UTF-8, which pyarrow finds out when a row is used.
    """
    with source.open(encoding="utf-8") as file:
        by_row = source.suffix == ".jsonl"
        return max((line.count('":') for line in file if by_row and len(line) > 100 * FIELDS), default=0)


def _read_by_line(source: Path) -> Dataset | None:
    """The rows of a .jsonl of which some lines can't be read; None where none can."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as mended:
        rows = [_row_of(line) for line in source.read_bytes().split(b"\n") if line.strip()]
        if all(UNREADABLE in row for row in rows):
            return None
        for row in rows:
            mended.write(json.dumps({UNREADABLE: None} | row, ensure_ascii=False) + "\n")
        mended.flush()
        return load_dataset("json", data_files=mended.name, split="train")


def _row_of(line: bytes) -> dict:
    """A line's row, or only why there is none."""
    try:
        text = line.decode()
        row = json.loads(text, parse_int=_whole, object_pairs_hook=_object)
        json.dumps(row, ensure_ascii=False).encode()  # refuses half of a surrogate pair
    except UnicodeError as error:
        return {UNREADABLE: f"a line that isn't UTF-8 ({error.reason})"}
    except (ValueError, RecursionError) as error:
        return {UNREADABLE: f"a line that isn't JSON ({getattr(error, 'msg', None) or error})"}
    if not isinstance(row, dict):
        return {UNREADABLE: "a line that isn't a JSON object"}
    n = sum(1 for _, _ in zip(range(FIELDS + 1), _fields(row, ""), strict=False))
    return {UNREADABLE: f"a line of more than {FIELDS} fields"} if n > FIELDS else row


def _whole(digits: str) -> int | str:
    """A number, or its digits where Arrow has no type that holds it."""
    return int(digits) if len(digits) < 19 else digits


def _object(pairs: list[tuple]) -> dict:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a name stands twice in an object")
    return found


def _fields(value, path: str) -> Iterator[str]:
    """Each field of a row once, those of a list's objects together."""
    seen, stack = set(), [(path, value)]
    while stack:
        path, value = stack.pop()
        if isinstance(value, dict):
            stack += [(f"{path}.{name}", inside) for name, inside in value.items()]
        elif isinstance(value, list):
            stack += [(path, inside) for inside in value if isinstance(inside, dict | list)]
        if path not in seen:
            seen.add(path)
            yield path


def _read_hub(name: str, split: str, config: str | None, **hub) -> Dataset:
    hub = {key: value for key, value in hub.items() if value is not None}
    try:
        rows = load_dataset(name, config, split=split, **hub)
    except (DatasetNotFoundError, DatasetGenerationError, ConnectionError, OSError, RuntimeError) as error:
        where = ", ".join(f"{key} {value}" for key, value in {"config": config, **hub}.items() if value is not None)
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise ValueError(
            f"dataset {name!r}{f' ({where})' if where else ''} can't be had from the hub ({reason}): check the name and the network, "
            "or say where there is a copy, dataset_options: {path: <a .jsonl or .parquet of the same columns, or a folder>}"
        ) from error
    _check_revision(name, hub.get("revision"), rows)
    return rows


def _check_revision(name: str, revision: str | None, rows: Dataset) -> None:
    """Raises ValueError where the rows are of another commit: offline, datasets takes whichever is in its cache."""
    paths = [file["filename"] for file in rows.cache_files]
    commits = {commit for path in paths for commit in COMMIT.findall(path)}
    if revision and COMMIT.match(f"/{revision}/") and commits and revision not in commits:
        raise ValueError(
            f"dataset {name!r}: its cache has revision {', '.join(sorted(commits))}, and {revision} is asked for, which the hub would have: "
            "load it once with a network, or say dataset_options: {revision: <that of the cache>}"
        )


def to_rows(raw: Dataset, to_row, features: Features | None = None) -> Dataset:
    """`to_row` applied to every raw row; only what it returns is kept. `features`: its types, else the first rows' are."""
    return mapped(raw, to_row, features=features, remove_columns=raw.column_names)


def beside(rows: Dataset, others: Dataset) -> Dataset:
    """Both datasets' columns in one; they have the same rows."""
    return concatenate_datasets([rows, others], axis=1) if others.column_names else rows


def mapped(rows: Dataset, function, *, fn_kwargs: dict | None = None, **options) -> Dataset:
    """`rows.map`, whose cache datasets keys by the function's mere name: this package's code belongs to the key too."""
    code = [path.read_text() for path in sorted(Path(__file__).parent.glob("*.py"))]
    key = Hasher.hash([rows._fingerprint, function.__module__, function.__qualname__, fn_kwargs, code])
    options = {"desc": "rows", "writer_batch_size": WRITTEN_AT_ONCE} | options
    return rows.map(function, fn_kwargs=fn_kwargs, new_fingerprint=key, **options)
