"""Raw rows from a local file or from the hub."""

from pathlib import Path

from datasets import Dataset, Features, List, Value, concatenate_datasets, load_dataset
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from datasets.fingerprint import Hasher

FORMATS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}
SHAREGPT = {"human": "user", "gpt": "assistant"}
CSV = {"keep_default_na": False, "na_values": [""]}  # NA, null and nan are words; an empty cell is None
MESSAGES = List({"role": Value("string"), "content": Value("string")})


def local_file(name: str) -> Path | None:
    """The file that `name` means, or None when it is no path. Raises ValueError when it is one that isn't there."""
    path = Path(name).expanduser()
    if path.suffix not in FORMATS:
        return None
    if not path.is_file():
        raise ValueError(f"dataset {name!r}: there is no such file")
    return path


def read(source: str | Path, split: str, config: str | None = None, text: set[str] = frozenset()) -> Dataset:
    """Raw rows of a file, or of one split of a hub set; of a .csv, the columns named in `text` as they are written.

    Raises ValueError when they can't be read.
    """
    if isinstance(source, Path):
        if source.stat().st_size == 0:
            raise ValueError(f"dataset '{source}' has no rows: the file is empty")
        options = CSV | {"converters": dict.fromkeys(text, str)} if source.suffix == ".csv" else {}
        _check_text(source)
        try:
            rows = load_dataset(FORMATS[source.suffix], data_files=str(source), split="train", **options)
        except (DatasetGenerationError, ValueError, OSError) as error:  # ValueError: pyarrow's
            if "corresponds to no data" in str(error):
                raise ValueError(f"dataset '{source}' has no rows") from error
            reason = str(error.__cause__ or error).splitlines()[0]
            raise ValueError(f"dataset '{source}' can't be read as {source.suffix}: {reason}") from error
        if any(column.startswith("__index_level_") for column in rows.column_names):
            raise ValueError(f"dataset '{source}' can't be read as .csv: its rows have more cells than its header")
        return rows
    try:
        return load_dataset(source, config, split=split)
    except (DatasetNotFoundError, ConnectionError, OSError) as error:
        raise ValueError(
            f"dataset {source!r} can't be had from the hub ({str(error).splitlines()[0]}): "
            "check the name and the network, or name a local .jsonl file of the same columns"
        ) from error


def _check_text(source: Path) -> None:
    """Refuse a file of text that isn't UTF-8, which pyarrow finds out when a row is used. Raises ValueError with the line."""
    if source.suffix == ".parquet":
        return
    read = 0
    try:
        with source.open(encoding="utf-8") as file:
            for _ in file:
                read += 1
    except UnicodeDecodeError as error:
        raise ValueError(
            f"dataset '{source}' can't be read as {source.suffix}: it is not UTF-8 (near line {read + 1}: {error.reason})"
        ) from error


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
    return rows.map(function, fn_kwargs=fn_kwargs, new_fingerprint=key, **options)


def messages(value: str | list[dict] | None) -> list[dict]:
    """A conversation, of which text is the user's one message; [] where it is neither. No content counts as no text.

    ShareGPT's {"from": "human", "value": ...} is a message too.
    """
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if isinstance(value, list) and all(isinstance(m, dict) and {"from", "value"} <= m.keys() for m in value):
        value = [{"role": SHAREGPT.get(m["from"], m["from"]), "content": m["value"]} for m in value]
    if not isinstance(value, list) or not all(isinstance(m, dict) and isinstance(m.get("role"), str) for m in value):
        return []
    found = [{"role": m["role"], "content": m.get("content") or ""} for m in value]
    return found if all(isinstance(m["content"], str) for m in found) else []
