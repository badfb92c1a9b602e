# SPDX-License-Identifier: Apache-2.0
"""Damages files as a broken disk or transfer does: as long as before, other bytes in the middle."""

from pathlib import Path


def damage(path: Path, *, count: int = 200) -> None:
    """Invert ``count`` bytes around the middle of a file."""
    content = bytearray(path.read_bytes())
    first = (len(content) - count) // 2
    content[first : first + count] = bytes(255 - byte for byte in content[first : first + count])
    path.write_bytes(content)
