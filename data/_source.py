"""Raw rows from a local file or from the hub."""

from pathlib import Path

from datasets import Dataset, load_dataset
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError

FORMATS = {".jsonl": "json", ".json": "json", ".parquet": "parquet"}


def local_file(name: str) -> Path | None:
    """The file that `name` means, or None when it is no path. Raises ValueError when it is one that isn't there."""
    path = Path(name).expanduser()
    if path.suffix not in FORMATS:
        return None
    if not path.is_file():
        raise ValueError(f"dataset {name!r}: there is no such file")
    return path


def read(source: str | Path, split: str, config: str | None = None) -> Dataset:
    """Raw rows of a file, or of one split of a hub set. Raises ValueError when they can't be read."""
    if isinstance(source, Path):
        if source.stat().st_size == 0:
            raise ValueError(f"dataset '{source}' has no rows: the file is empty")
        try:
            return load_dataset(FORMATS[source.suffix], data_files=str(source), split="train")
        except DatasetGenerationError as error:
            raise ValueError(f"dataset '{source}' can't be read as {source.suffix}: {error.__cause__}") from error
    try:
        return load_dataset(source, config, split=split)
    except (DatasetNotFoundError, ConnectionError, OSError) as error:
        raise ValueError(
            f"dataset {source!r} can't be had from the hub ({str(error).splitlines()[0]}): "
            "check the name and the network, or name a local .jsonl file of the same columns"
        ) from error


def to_rows(raw: Dataset, to_row) -> Dataset:
    """`to_row` applied to every raw row; only what it returns is kept."""
    return raw.map(to_row, remove_columns=raw.column_names)
