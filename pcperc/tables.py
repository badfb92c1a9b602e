# SPDX-License-Identifier: Apache-2.0
"""Tables in Arrow files: .feather of Argoverse 2, .parquet of Waymo and batch inference. pyarrow is imported on use."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pcperc.files import written_whole

ENDINGS = (".feather", ".parquet")


def import_arrow() -> Any:
    """Return pyarrow with its feather and parquet modules.

    Raises:
        ImportError: it is not installed; the message says how to.
    """
    try:
        import pyarrow
        import pyarrow.feather
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            f"pyarrow must be installed for .feather and .parquet files (pip install 'pcperc[tables]'): {error}"
        ) from error
    return pyarrow


def read_table(path: str | Path, columns: Sequence[str], *, where: dict[str, Any] | None = None) -> dict[str, Any]:
    """Read columns of a table.

    Args:
        path: of a .feather or .parquet file.
        columns: names; each must be there.
        where: column to value; of a .parquet file only the rows with these values.
    Returns:
        Name to a numpy array (N,), of objects for text, or to a list of N arrays for lists (None where there is none),
        which may be read-only. Of numbers, those that are missing are NaN.
    Raises:
        FileNotFoundError: no such file.
        ImportError: no pyarrow.
        ValueError: another ending, a file that cannot be read, or one without a column; the message names the file.
    """
    path = _checked(path)
    with _reading(path) as arrow:
        if path.suffix == ".feather":
            names = arrow.ipc.open_file(str(path)).schema.names
        else:
            names = arrow.parquet.read_schema(path).names
        missing = [name for name in columns if name not in names]
        if not missing and path.suffix == ".feather":
            table = arrow.feather.read_table(path, columns=list(columns))
        elif not missing:
            filters = [(name, "=", value) for name, value in (where or {}).items()]
            table = arrow.parquet.read_table(path, columns=list(columns), filters=filters or None)
        if not missing:
            table.validate(full=True)  # places in texts and lists: of a damaged file they may lead out of its memory
    if missing:
        raise ValueError(f"table {path} must have the column '{missing[0]}', got {', '.join(names)}")
    return {name: _values(arrow, table.column(name)) for name in columns}


def _checked(path: str | Path) -> Path:
    """Return the path of a table that is there."""
    path = Path(path)
    if path.suffix not in ENDINGS:
        raise ValueError(f"table {path} must end in {' or '.join(ENDINGS)}")
    if not path.is_file():
        raise FileNotFoundError(f"table {path} is missing")
    return path


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[Any]:
    """Give pyarrow; what it says of a damaged file becomes one line with the file's name."""
    arrow = import_arrow()
    try:
        yield arrow
    except (arrow.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"table {path} cannot be read, it is truncated or something else: {reason}") from error


def _values(arrow: Any, column: Any) -> Any:
    kind = column.type
    if arrow.types.is_list(kind) or arrow.types.is_large_list(kind) or arrow.types.is_fixed_size_list(kind):
        return [value.values.to_numpy(zero_copy_only=False) if value.is_valid else None for value in column]
    return column.to_numpy()


def stack_columns(path: str | Path, table: dict[str, Any], columns: Sequence[str]) -> np.ndarray:
    """Return columns of a table side by side, (N, C) float64.

    Args:
        path: of the file that ``table`` was read from, for messages.
    Raises:
        ValueError: a value that is no finite number; the message names file, column and row.
    """
    for name in columns:
        values = np.asarray(table[name])
        if values.dtype.kind not in "iuf":
            raise ValueError(f"table {path}: column '{name}' must hold numbers, got {values.dtype.name}")
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise ValueError(
                f"table {path}: column '{name}' must hold finite numbers, got {values[bad[0]]} in row {bad[0]}"
            )
    return np.stack([np.asarray(table[name], np.float64) for name in columns], axis=-1)


def whole_numbers(path: str | Path, table: dict[str, Any], column: str) -> np.ndarray:
    """Return a column of whole numbers, (N,); ValueError, with file and column, where one is missing."""
    values = np.asarray(table[column])
    if values.dtype.kind not in "iu":
        raise ValueError(
            f"table {path}: column '{column}' must hold whole numbers in every row, got {values.dtype.name}"
        )
    return values


def read_metadata(path: str | Path) -> dict[str, str]:
    """Return the metadata of a .parquet file's schema, as `write_table` writes them.

    Raises:
        FileNotFoundError, ImportError, ValueError: as of `read_table`.
    """
    path = _checked(path)
    with _reading(path) as arrow:
        metadata = arrow.parquet.read_schema(path).metadata or {}
    return {key.decode(): value.decode() for key, value in metadata.items()}


def write_table(path: str | Path, columns: dict[str, Any], *, schema: Any = None) -> Path:
    """Write a table; its name appears only when it is complete.

    Args:
        path: of a .feather (zstd) or .parquet file.
        columns: name to a sequence or array, all of one length.
        schema: of pyarrow: the types of the columns, and metadata; None takes the types of the values.
    Raises:
        ImportError: no pyarrow.
        ValueError: another ending.
        OSError: it cannot be written; the message names it.
    """
    path = Path(path)
    if path.suffix not in ENDINGS:
        raise ValueError(f"table {path} must end in {' or '.join(ENDINGS)}")
    arrow = import_arrow()
    table = arrow.table(
        {name: values if isinstance(values, np.ndarray) else list(values) for name, values in columns.items()},
        schema=schema,
    )
    with written_whole(path) as partial:
        if path.suffix == ".feather":
            arrow.feather.write_feather(table, str(partial), compression="zstd")
        else:
            arrow.parquet.write_table(table, partial)
    return path
