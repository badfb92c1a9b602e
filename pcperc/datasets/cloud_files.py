# SPDX-License-Identifier: Apache-2.0
"""Clouds in text, npy and ply files: read whole, checked, and never executed."""

from __future__ import annotations

import io
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pcperc.datasets.transformed import read_file

# What the headers of ply files call their types, as numpy does.
PLY_TYPES = {
    **{"char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2"},
    **{"uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4"},
    **{"float": "f4", "float32": "f4", "double": "f8", "float64": "f8"},
}
PLY_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "="}

MAX_ROOM = 200.0  # metres along an axis: a room in centimetres is larger, S3DIS's longest hallway a third of it

# What np.load answers to a damaged npy or npz file; NotImplementedError is a RuntimeError.
NUMPY_ERRORS = (ValueError, OSError, EOFError, RuntimeError, tokenize.TokenError, zipfile.BadZipFile, zlib.error)


def read_table(
    path: str | Path, what: str, *, columns: int, delimiter: str | None = None, names: Sequence[str] = ()
) -> np.ndarray:
    """Read rows of ``columns`` numbers from a text file, (N, columns) float64; an empty file is N = 0.

    Args:
        path: of the file. what: what it is, for messages. delimiter: None is any white space. names: of the first
            columns, for messages.
    Raises:
        FileNotFoundError: no such file.
        ValueError: other than numbers in it, rows of another length, or a number that is not finite.
    """
    content = read_file(path, what)
    named = f" ({', '.join([*names, *(['...'] if columns > len(names) else [])])})" if names else ""
    rule = f"{what} {path} must hold rows of {columns} numbers{named}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of an empty file
            table = np.loadtxt(io.BytesIO(content), delimiter=delimiter, ndmin=2, comments=None)
    except ValueError as error:
        got = _first_bad_row(content, delimiter, columns) or str(error).partition(";")[0]
        raise ValueError(f"{rule}, {got}") from error
    table = table.reshape(-1, columns) if table.size == 0 else table
    if table.shape[1] != columns:
        hint = _turned(table, columns) or _other_delimiter(content.decode("utf-8", "replace"), delimiter)
        raise ValueError(f"{rule}, got {table.shape[1]} in a row{hint}")
    check_finite(path, what, table)
    return table


def read_npy(path: str | Path, what: str) -> np.ndarray:
    """Read the array of an npy file, without pickles.

    Raises:
        FileNotFoundError: no such file. ValueError: it is no npy file, is damaged, or holds objects.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{what} {path} is missing, though the data set lists it")
    try:
        return np.load(path, allow_pickle=False)
    except NUMPY_ERRORS as error:
        raise ValueError(f"{what} {path} cannot be read as npy: {numpy_reason(error)}") from error


def numpy_reason(error: Exception) -> str:
    """Say why np.load could not read a file; where it takes one for a pickle, its advice is to execute that."""
    text = str(error)
    if "Object arrays" in text:
        return "it holds other things than numbers"
    return "it is another kind of file" if "pickle" in text else text


def check_finite(path: str | Path, what: str, table: np.ndarray) -> None:
    """Raise ValueError naming the first row of (N, C) that has a NaN or an infinity."""
    bad = ~np.isfinite(table).all(axis=1)
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise ValueError(f"{what} {path} must have finite numbers, got {table[first].tolist()} in row {first}")


def check_not_turned(path: str | Path, what: str, table: np.ndarray, columns: Sequence[str]) -> None:
    """Raise ValueError where a table (N, C >= len(columns)), which may have further columns, has rows for columns.

    That is so where it is wider than any list of columns is, and has fewer rows than columns.
    """
    if table.shape[1] > max(len(table), 32):
        raise ValueError(
            f"{what} {path} must hold rows of {', '.join(columns)}, one a point, got {len(table)} rows of "
            f"{table.shape[1]} numbers: rows and columns are exchanged"
        )


def check_normals(path: str | Path, what: str, normals: np.ndarray) -> None:
    """Raise ValueError naming the first row of (N, 3) longer than 1, beyond rounding: other columns stand there.

    Published files have shorter ones, and such of length 0: means over faces, and faces without area.
    """
    with np.errstate(over="ignore"):
        length = np.linalg.norm(normals.astype(np.float64), axis=1)
    if (length > 1.01).any():
        first = int(np.flatnonzero(length > 1.01)[0])
        got = f"got {normals[first].tolist()}, of length {length[first]:.6g}, in row {first}"
        raise ValueError(f"{what} {path} must have normals nx, ny, nz of length 1, {got}")


def _first_bad_row(content: bytes, delimiter: str | None, columns: int) -> str:
    """Say what the first row of a text holds that is not ``columns`` numbers; numpy counts rows from 1."""
    lines = [line.decode("utf-8", "replace") for line in content.splitlines() if line.strip()]
    for row, line in enumerate(lines):
        words, hint = line.split(delimiter), _other_delimiter(line, delimiter)
        if len(words) != columns:
            return f"got {len(words)} in row {row}{hint}"
        for word in words:
            try:
                float(word)
            except ValueError:
                return f"got {word[:20]!r} in row {row}{hint}"
    return ""


def _other_delimiter(text: str, delimiter: str | None) -> str:
    """Say so where a text has commas for white space between its numbers, or white space for commas."""
    if delimiter is None and "," in text:
        return ": they are to be separated by spaces, not by commas"
    if delimiter == "," and "," not in text and len(text.split()) > 1:
        return ": they are to be separated by commas, not by spaces"
    return ""


def _turned(table: np.ndarray, columns: int) -> str:
    """Say so where a table of a known number of columns has rows for columns."""
    return ": rows and columns are exchanged" if len(table) == columns else ""


def check_colors(path: str | Path, what: str, colors: np.ndarray, *, whole: bool = True) -> None:
    """Raise ValueError naming the first row of (N, 3) that is no colour of 0 to 255.

    So are colours of which none is above 1 and some are above 0: they are of 0 to 1. Not ``whole``, of one object say,
    they may be nearly black.
    """
    bad = ~((colors >= 0) & (colors <= 255)).all(axis=1)
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise ValueError(f"{what} {path} must have colours of 0 to 255, got {colors[first].tolist()} in row {first}")
    if whole and 0 < (largest := colors.max(initial=0)) <= 1:
        raise ValueError(f"{what} {path} must have colours of 0 to 255, got some of 0 to 1: the largest is {largest:g}")


def check_room_size(path: str | Path, what: str, xyz: np.ndarray) -> None:
    """Raise ValueError for (N, 3) of a room that is wider than `MAX_ROOM` metres: it is in another unit."""
    size = np.ptp(xyz, axis=0) if len(xyz) else np.zeros(3)
    if size.max() > MAX_ROOM:
        got = " x ".join(f"{s:.4g}" for s in size)
        raise ValueError(f"{what} {path} must be in metres, at most {MAX_ROOM:g} along an axis, got {got}")


def read_ply_vertices(path: str | Path, what: str) -> dict[str, np.ndarray]:
    """Read the vertices of a ply file, ascii or binary: (N,) arrays by the names of the properties.

    Elements after the vertices, such as faces, are not read.

    Raises:
        FileNotFoundError: no such file. ValueError: it is no ply file, is cut off, or has lists in its vertices.
    """
    content = read_file(path, what)
    head, end, body = content.partition(b"end_header\n")
    lines = head.decode("ascii", "replace").split("\n")
    if lines[0].strip() != "ply" or not end:
        raise ValueError(f"{what} {path} must be a ply file with a header, lines ended by a line feed")
    words = [line.split() for line in lines[1:] if line.strip()]
    form = next((line[1] for line in words if line[0] == "format" and len(line) > 1), "none")
    elements = [index for index, line in enumerate(words) if line[0] == "element"]
    first = words[elements[0]] if elements else []
    if form not in PLY_ORDERS or first[1:2] != ["vertex"] or not first[2:] or not first[2].isdigit():
        raise ValueError(f"{what} {path}: ply of format {form} must have a number of vertices as its first element")
    stop = elements[1] if len(elements) > 1 else len(words)
    properties = [line for line in words[elements[0] + 1 : stop] if line[0] == "property"]
    names = {line[2] for line in properties if len(line) == 3 and line[1] in PLY_TYPES}
    if not names or len(names) < len(properties):
        raise ValueError(
            f"{what} {path}: properties of ply vertices must be numbers, each of its own name, got {properties}"
        )
    row = np.dtype([(name, PLY_ORDERS[form] + PLY_TYPES[type_]) for _, type_, name in properties])
    count = int(first[2])
    if form == "ascii":
        rows = [line.split() for line in body.decode("ascii", "replace").split("\n")[:count]]
        try:
            vertices = np.array([tuple(words) for words in rows if len(words) == len(row)], row)
        except ValueError as error:
            raise ValueError(f"{what} {path} must hold numbers: {error}") from error
    else:
        vertices = np.frombuffer(body[: count * row.itemsize], row) if len(body) >= count * row.itemsize else ()
    if len(vertices) != count:
        raise ValueError(f"{what} {path} must hold {count} vertices, as its header says, but is cut off")
    return {name: vertices[name].copy() for name in row.names}


def read_ply_columns(path: str | Path, what: str, names: Sequence[str]) -> np.ndarray:
    """Read properties of the vertices of a ply file as columns, (N, len(names)) float64.

    Raises:
        FileNotFoundError, ValueError: as `read_ply_vertices`; or it lacks one of them.
    """
    vertices = read_ply_vertices(path, what)
    missing = [name for name in names if name not in vertices]
    if missing:
        raise ValueError(f"{what} {path} must have a property {missing[0]}, got {sorted(vertices)}")
    return np.stack([vertices[name].astype(np.float64) for name in names], 1)
