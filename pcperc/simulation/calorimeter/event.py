# SPDX-License-Identifier: Apache-2.0
"""One event: deposits of signal and pile-up, noise, thresholds, and the truth of each hit."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import norm, truncnorm

from pcperc.geometry.calorimeter import NO_INSTANCE, NO_TIME, NOISE_CLASS, hit_table
from pcperc.simulation.calorimeter.geometry import COMPARTMENT, MIP_GEV, cell_centres, cell_of, cells_by_ring
from pcperc.simulation.calorimeter.particles import Generated, draw_pile_up, draw_signal
from pcperc.simulation.calorimeter.showers import PION, Deposits, simulate_showers

# Standard deviation of a cell, by compartment, in MIPs: our choice, as are the threshold and the times.
NOISE_MIPS = np.array([0.22, 0.13, 0.13])
THRESHOLD_SIGMAS = 3.5
CONTRIBUTORS = 4  # as many contributions to a hit are kept
MIN_HITS = 3  # a particle that dominates fewer hits is no object
TIMED_MIPS, TIME_NS, TIME_SPREAD_NS = 12.0, 5.0, 0.03  # hits above have a time; arrival is counted from 5 ns before


class Recipe(NamedTuple):
    """How crowded an event is.

    Attributes:
        primaries: fewest and most signal primaries. pile_up: mean number of interactions in the same crossing.
    """

    primaries: tuple[int, int]
    pile_up: float


SIZES = {
    "tiny": Recipe(primaries=(3, 5), pile_up=1.0),
    "small": Recipe(primaries=(6, 12), pile_up=20.0),
    "full": Recipe(primaries=(50, 80), pile_up=25.0),
}


def simulate_event(recipe: Recipe, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Simulate an event; the arrays are those of docs/simulation.md."""
    signal = draw_signal(int(rng.integers(recipe.primaries[0], recipe.primaries[1] + 1)), rng)
    deposits = simulate_showers(signal.particles, rng)
    background = simulate_showers(draw_pile_up(recipe.pile_up, rng), rng)
    background = background._replace(particle=np.full(len(background.cell), NO_INSTANCE))
    return record(Deposits.joined([deposits, background]), signal, rng)


def record(deposits: Deposits, signal: Generated, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Read the cells out: add noise, drop what is below threshold, say whose energy each hit has.

    Args:
        deposits: particle is an index into ``signal``, or -1 for background.
        signal: the particles that are to be found.
    Returns:
        The arrays of an event file. A hit's instance is the particle with the most of its energy; background and noise
        together count as one more. Background hits have instance -1 and class "noise".
    """
    cells, cell_index = np.unique(deposits.cell, return_inverse=True)
    noise, more_cells, more_noise = _draw_noise(cells, rng)
    count, particles = len(cells), len(signal.parent)
    pair, pair_index = np.unique(cell_index * (particles + 1) + deposits.particle + 1, return_inverse=True)
    owner, of_pair = pair % (particles + 1) - 1, pair // (particles + 1)
    given = np.bincount(pair_index, weights=deposits.energy, minlength=len(pair))
    layers, _ = cell_centres(cells)
    measured = np.bincount(of_pair, weights=given, minlength=count) + noise
    kept = measured > _thresholds()[layers]
    contributors, fractions = _largest_shares(of_pair, owner, given, noise, count)
    alone = len(more_cells)
    contributors = np.concatenate([contributors[kept], np.full((alone, CONTRIBUTORS), NO_INSTANCE)])
    fractions = np.concatenate([fractions[kept], np.tile(np.eye(1, CONTRIBUTORS), (alone, 1))])
    energy = np.concatenate([measured[kept], more_noise])
    layers, xyz = cell_centres(np.concatenate([cells[kept], more_cells]))
    timed = energy > TIMED_MIPS * MIP_GEV[layers]
    time = np.where(timed, TIME_NS + rng.normal(0.0, TIME_SPREAD_NS, len(energy)), NO_TIME)
    instance = _objects(contributors[:, 0], particles)
    of_particle = np.append(np.where(signal.particles.pdg == PION, 2, 1), NOISE_CLASS)  # the last one for -1
    return {
        "hits": hit_table(energy, xyz, time),
        "layer": (layers + 1).astype(np.uint8),
        "class": of_particle[instance].astype(np.int64),
        "instance": instance,
        "contributors": contributors.astype(np.int64),
        "fractions": fractions.astype(np.float32),
        "particle_pdg": signal.particles.pdg,
        "particle_parent": signal.parent,
        "particle_parent_pdg": signal.parent_pdg,
        "particles": np.stack(signal.particles[1:], axis=1).astype(np.float32),
    }


def _thresholds() -> np.ndarray:
    return THRESHOLD_SIGMAS * NOISE_MIPS[COMPARTMENT] * MIP_GEV


def _draw_noise(cells: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw the noise of the given cells, and the other cells that noise lifts over the threshold, with energies."""
    sigma = NOISE_MIPS[COMPARTMENT] * MIP_GEV
    noise = rng.normal(0.0, 1.0, len(cells)) * sigma[cell_centres(cells)[0]]
    found = [np.zeros(0, np.int64)]
    for layer, inner, outer, count in cells_by_ring():
        number = rng.poisson(count * norm.sf(THRESHOLD_SIGMAS))
        radius = np.sqrt(rng.uniform(inner**2, outer**2, number))
        turn = rng.uniform(-np.pi, np.pi, number)
        places = zip(radius * np.cos(turn), radius * np.sin(turn), strict=True)
        found.append(np.array([cell_of(layer, x, y) for x, y in places], np.int64))
    found = np.setdiff1d(np.concatenate(found), cells)
    found = found[found >= 0]
    drawn = truncnorm.rvs(THRESHOLD_SIGMAS, np.inf, size=len(found), random_state=rng)
    return noise, found, drawn * sigma[cell_centres(found)[0]]


def _largest_shares(
    of_pair: np.ndarray, owner: np.ndarray, given: np.ndarray, noise: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the `CONTRIBUTORS` largest contributors of each cell and their parts of its energy; noise is background's.

    Noise below zero takes nothing away from anybody. Places that are left over are -1 with a part of 0.
    """
    cell = np.concatenate([of_pair, np.arange(count)])
    who = np.concatenate([owner, np.full(count, NO_INSTANCE)])
    energy = np.concatenate([given, noise.clip(0)])
    # Background of a cell is two entries, pile-up and noise: they become one.
    key, merged = np.unique(cell * (owner.max(initial=-1) + 2) + who + 1, return_inverse=True)
    energy = np.bincount(merged, weights=energy, minlength=len(key))
    cell, who = np.divmod(key, owner.max(initial=-1) + 2)
    order = np.lexsort((who, -energy, cell))
    cell, who, energy = cell[order], who[order] - 1, energy[order]
    place = np.arange(len(cell)) - np.searchsorted(cell, cell)
    total = np.bincount(cell, weights=energy, minlength=count)
    contributors = np.full((count, CONTRIBUTORS), NO_INSTANCE)
    fractions = np.zeros((count, CONTRIBUTORS))
    kept = (place < CONTRIBUTORS) & (energy > 0)
    contributors[cell[kept], place[kept]] = who[kept]
    fractions[cell[kept], place[kept]] = energy[kept] / total[cell[kept]]
    return contributors, fractions


def _objects(dominant: np.ndarray, particles: int) -> np.ndarray:
    """Return the instance of each hit: its dominant particle, -1 where that one dominates fewer than `MIN_HITS`."""
    hits = np.bincount(dominant[dominant >= 0], minlength=particles)
    large = np.append(hits >= MIN_HITS, False)  # the last one for -1
    return np.where(large[dominant], dominant, NO_INSTANCE).astype(np.int64)
