# SPDX-License-Identifier: Apache-2.0
"""A grid of cells seen from above, and which of them areas and lines cover. Exact: a cell counts by its centre."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_PIECE = 16.0  # cells: longer segments are cut, so that the cells around one are few


@dataclass(frozen=True)
class BEVGrid:
    """Cells of a bird's-eye view, x first.

    Attributes:
        x_bound, y_bound: first edge, last edge and cell size, metres; a whole number of cells.
    Raises:
        ValueError: a bound that is no whole number of cells.
    """

    x_bound: tuple[float, float, float]
    y_bound: tuple[float, float, float]

    def __post_init__(self) -> None:
        for name in ("x_bound", "y_bound"):
            bound = tuple(float(value) for value in getattr(self, name))
            object.__setattr__(self, name, bound)
            steps = (bound[1] - bound[0]) / bound[2] if len(bound) == 3 and bound[2] > 0 else 0
            if round(steps) < 1 or abs(steps - round(steps)) > 1e-3:
                raise ValueError(f"BEVGrid: {name} must be (first, last, cell size) of whole cells, got {bound}")

    @property
    def shape(self) -> tuple[int, int]:
        """Cells along x and along y."""
        return tuple(round((last - first) / step) for first, last, step in (self.x_bound, self.y_bound))

    @property
    def lower(self) -> np.ndarray:
        """(2,) x and y of the first edges."""
        return np.array([self.x_bound[0], self.y_bound[0]])

    @property
    def cell_size(self) -> np.ndarray:
        """(2,) metres along x and y."""
        return np.array([self.x_bound[2], self.y_bound[2]])

    def to_index(self, xy: np.ndarray) -> np.ndarray:
        """Return places (..., 2) as fractional cell indices: the centre of cell (i, j) is at (i, j)."""
        return (xy - self.lower) / self.cell_size - 0.5

    def centres(self) -> np.ndarray:
        """Return the places of all cell centres, (X, Y, 2) metres."""
        index = np.stack(np.meshgrid(*map(np.arange, self.shape), indexing="ij"), -1)
        return self.lower + (index + 0.5) * self.cell_size


def ring_edges(ring: np.ndarray, *, hole: bool = False) -> np.ndarray:
    """Return the edges of a closed ring in the order that ``fill_areas`` takes: counter-clockwise, a hole clockwise.

    Args:
        ring: (N >= 3, 2) corners in either order; the last may repeat the first.
    Returns:
        (N, 2, 2): start and end of each edge.
    """
    ring = np.asarray(ring, np.float64)
    after = np.roll(ring, -1, axis=0)
    local, local_after = ring - ring[0], after - ring[0]  # world coordinates are large and would cost digits
    twice_area = (local[:, 0] * local_after[:, 1] - local[:, 1] * local_after[:, 0]).sum()
    edges = np.stack([ring, after], axis=1)
    return edges if (twice_area >= 0) != hole else edges[::-1, ::-1]


def line_segments(points: np.ndarray) -> np.ndarray:
    """Return the segments (N - 1, 2, 2) of a line of (N, 2) points."""
    points = np.asarray(points, np.float64)
    return np.stack([points[:-1], points[1:]], axis=1)


def fill_areas(edges: np.ndarray, grid: BEVGrid) -> np.ndarray:
    """Return which cells have their centre in at least one of several areas; these may overlap and have holes.

    Along each column of centres a +1 is booked where an edge towards +x is crossed and a -1 for one towards -x; the sum
    up to a centre is the number of areas around it. A centre on an edge belongs to the area above and right of it.

    Args:
        edges: (E, 2, 2) start and end of directed edges, metres in the grid's frame: rings of ``ring_edges`` whose
            holes lie in the ring that they cut. Rings that cross themselves are filled where they turn
            counter-clockwise.
    Returns:
        (X, Y) bool.
    """
    columns, rows = grid.shape
    start, end = np.moveaxis(grid.to_index(edges.reshape(-1, 2, 2)), 1, 0)
    forward = end[:, 0] > start[:, 0]
    low, high = np.where(forward[:, None], start, end), np.where(forward[:, None], end, start)
    first = np.clip(np.ceil(low[:, 0]), 0, columns).astype(np.int64)
    counts = np.clip(np.ceil(high[:, 0]), 0, columns).astype(np.int64) - first
    edge, offset = _expand(counts)
    column = first[edge] + offset
    low, high = low[edge], high[edge]
    share = (column - low[:, 0]) / (high[:, 0] - low[:, 0])
    crossed = np.clip(np.ceil(low[:, 1] + share * (high[:, 1] - low[:, 1])), 0, rows).astype(np.int64)
    booked = np.bincount(
        column * (rows + 1) + crossed, weights=np.where(forward[edge], 1.0, -1.0), minlength=columns * (rows + 1)
    )
    return booked.reshape(columns, rows + 1)[:, :rows].cumsum(axis=1) > 0.5


def draw_lines(segments: np.ndarray, grid: BEVGrid, *, width: float) -> np.ndarray:
    """Return which cells have their centre within half the width of a segment, ends included.

    Args:
        segments: (S, 2, 2) start and end, metres in the grid's frame.
        width: metres.
    Returns:
        (X, Y) bool.
    """
    mask = np.zeros(grid.shape, bool)
    segments = _near(segments.reshape(-1, 2, 2), grid, width / 2)
    start, step = segments[:, 0], segments[:, 1] - segments[:, 0]
    pieces = np.maximum(np.ceil(np.abs(step / grid.cell_size).max(axis=1, initial=0) / _PIECE), 1).astype(np.int64)
    line, piece = _expand(pieces)
    share = np.stack([piece, piece + 1], 1) / pieces[line, None]
    ends = grid.to_index(start[line, None] + share[..., None] * step[line, None])  # (pieces, 2, 2) cell indices
    reach = width / 2 / grid.cell_size
    shape = np.array(grid.shape)
    first = np.clip(np.ceil(ends.min(axis=1) - reach), 0, shape).astype(np.int64)
    last = np.clip(np.floor(ends.max(axis=1) + reach) + 1, first, shape).astype(np.int64)
    size = last - first
    window, offset = _expand(size[:, 0] * size[:, 1])
    cell = first[window] + np.stack(np.divmod(offset, size[window, 1]), 1)
    centre = grid.lower + (cell + 0.5) * grid.cell_size
    near = _distance(centre, start[line[window]], step[line[window]]) <= width / 2
    mask[cell[near, 0], cell[near, 1]] = True
    return mask


def _near(segments: np.ndarray, grid: BEVGrid, margin: float) -> np.ndarray:
    """Leave out the segments whose bounding box does not come near the grid."""
    upper = grid.lower + grid.cell_size * grid.shape
    inside = (segments.max(axis=1) >= grid.lower - margin) & (segments.min(axis=1) <= upper + margin)
    return segments[inside.all(axis=1)]


def _distance(points: np.ndarray, start: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Return the distance of each point to its segment ``start + t step``, t in [0, 1]."""
    squared = (step**2).sum(1)
    along = np.clip(((points - start) * step).sum(1) / np.where(squared > 0, squared, 1), 0, 1)
    return np.hypot(*(points - start - along[:, None] * step).T)


def _expand(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each of ``sum(counts)`` entries whose it is, and its number 0, 1, ... among those of its owner."""
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner, np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
