# SPDX-License-Identifier: Apache-2.0
"""What an event file says of hits beside what was put in, by plain loops; where noise is, and what primaries are."""

import math

import numpy as np
import pytest

from pcperc.simulation.calorimeter import event as events
from pcperc.simulation.calorimeter.event import record
from pcperc.simulation.calorimeter.geometry import COMPARTMENT, LAYER_Z, MIP_GEV, cell_centres, cell_of, cells_by_ring
from pcperc.simulation.calorimeter.particles import Generated, decay_tau, draw_signal
from pcperc.simulation.calorimeter.showers import ELECTRON, PHOTON, PION, Deposits, Particles
from tests.simulation.particle_gun import gun

TAU = 15


def truth(deposits, noise, pdg):
    """(energy, contributors, fractions, instance, class, timed) of each hit by cell; ``noise`` by cell."""
    given = {}
    for cell, particle, energy in zip(*deposits, strict=True):
        own = given.setdefault(cell, {})
        own[particle] = own.get(particle, 0.0) + energy
    hits = {}
    for cell, own in given.items():
        layer = int(cell_centres(np.array([cell]))[0][0])
        mip, sigma = ((0.0105, 0.22), (0.040, 0.13), (0.078, 0.13))[(layer >= 28) + (layer >= 40)]
        energy = sum(own.values()) + noise[cell]
        own = dict(own)
        own[-1] = own.get(-1, 0.0) + max(noise[cell], 0.0)
        shares = sorted(((-value, who) for who, value in own.items() if value > 0))[:4]
        total = sum(own.values())
        if energy > 3.5 * sigma * mip:
            names = [who for _, who in shares] + [-1] * (4 - len(shares))
            parts = [-value / total for value, _ in shares] + [0.0] * (4 - len(shares))
            hits[cell] = (energy, names, parts, energy > 12 * mip)
    leads = [names[0] for _, names, *_ in hits.values()]
    rows = {}
    for cell, (energy, names, parts, timed) in hits.items():
        instance = names[0] if leads.count(names[0]) >= 3 else -1
        label = 0 if instance < 0 else 2 if pdg[instance] == PION else 1
        rows[cell] = (energy, names, parts, instance, label, timed)
    return rows


def test_an_event_file_says_what_was_put_in(monkeypatch):
    """Six particles, of taus too, background and noise of either sign in the same cells, at and below threshold."""
    rng = np.random.default_rng(0)
    cells = np.unique([cell_of(layer, 70.0 + 3 * i, 1.0) for layer in (2, 30, 45) for i in range(30)])
    pdg, parents = (
        np.array([ELECTRON, PION, PHOTON, PION, PION, PHOTON]),
        np.array([ELECTRON, TAU, TAU, TAU, PION, PION]),
    )
    signal = Generated(Particles(pdg, *rng.uniform(1, 3, (3, 6))), np.array([0, 1, 1, 1, 2, 3]), parents)
    count = 900
    energy = rng.exponential(1.0, count) * rng.choice([0.02, 0.2, 2.0], count)
    who = rng.choice(np.arange(-1, 6), count, p=[0.2, 0.2, 0.2, 0.2, 0.1, 0.09, 0.01])
    deposits = Deposits(rng.choice(cells, count), who, energy)
    hit = np.unique(deposits.cell)
    noise = dict(zip(hit.tolist(), rng.normal(0, 0.3, len(hit)).tolist(), strict=True))
    nothing = np.zeros(0)
    monkeypatch.setattr(
        events,
        "_draw_noise",
        lambda cells, rng: (np.array([noise[c] for c in cells.tolist()]), nothing.astype(int), nothing),
    )
    found = record(deposits, signal, rng)
    expected = truth(Deposits(*(column.tolist() for column in deposits)), noise, pdg)
    names = [cell for cell in hit.tolist() if cell in expected]
    layers, places = cell_centres(np.array(names))
    assert found["hits"][:, 5:8] == pytest.approx(places, rel=1e-6)
    assert found["layer"].tolist() == (layers + 1).tolist()
    energy, contributors, fractions, instance, label, timed = map(list, zip(*(expected[c] for c in names), strict=True))
    assert found["hits"][:, 0] == pytest.approx(energy, rel=1e-5)
    assert found["contributors"].tolist() == contributors
    assert found["fractions"] == pytest.approx(np.array(fractions), abs=1e-6)
    assert found["instance"].tolist() == instance and found["class"].tolist() == label
    assert set(label) == {0, 1, 2} and 30 < len(names) < len(hit) and 0 < sum(timed) < len(timed)
    time = found["hits"][:, 8]
    assert (time[~np.array(timed)] == -1).all() and time[timed] == pytest.approx(np.full(sum(timed), 5.0), abs=0.15)
    assert found["particles"] == pytest.approx(np.stack(signal.particles[1:], 1), rel=1e-6)
    assert found["particle_pdg"].tolist() == pdg.tolist() and found["particle_parent_pdg"].tolist() == parents.tolist()


def test_cells_of_noise_are_everywhere_alike_and_just_above_their_threshold():
    """By rings of equal cells; beyond 3.5 deviations the mean of a normal distribution is 3.7515."""
    none = Generated(gun(ELECTRON, 1.0, 0), np.zeros(0, np.int64), np.zeros(0, np.int64))
    nothing = Deposits(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    found = [record(nothing, none, np.random.default_rng(seed)) for seed in range(4)]
    hits, layers = (np.concatenate([event[key] for event in found]) for key in ("hits", "layer"))
    radius, depth = np.hypot(hits[:, 5], hits[:, 6]), []
    for compartment, sigma in enumerate((0.22, 0.13, 0.13)):
        own = COMPARTMENT[layers - 1] == compartment
        units = hits[own, 0] / (sigma * MIP_GEV[layers[own] - 1])
        assert units.min() > 3.5 * (1 - 1e-6) and units.mean() == pytest.approx(3.7515, abs=1.2 / math.sqrt(own.sum()))
    for layer, inner, outer, count in cells_by_ring():
        own = (layers == layer + 1) & (radius >= inner) & (radius < outer)
        assert own.sum() == pytest.approx(4 * count * 2.326e-4, abs=5 * math.sqrt(4 * count * 2.326e-4) + 3)
        depth += ((radius[own] ** 2 - inner**2) / (outer**2 - inner**2)).tolist()
    # As many in the outer half of the area as in the inner one; a tile's row is as wide as it is far from the beam.
    assert np.mean(depth) == pytest.approx(0.5, abs=0.02)


def test_noise_makes_no_second_hit_of_a_cell():
    """All tiles have energy already: some 30 of them would be drawn again."""
    rows, turns = range(100, 210), range(360)
    places = [(10 * math.exp(math.radians(u + 0.5)), math.radians(v + 0.5)) for u in rows for v in turns]
    cells = {cell_of(layer, r * math.cos(a), r * math.sin(a)) for layer in range(40, 52) for r, a in places if r > 141}
    cells = np.array(sorted(cells - {-1}))
    assert len(cells) > 100_000 and (cell_centres(cells)[1][:, 2] >= LAYER_Z[40]).all()
    noise, more, energy = events._draw_noise(cells, np.random.default_rng(0))
    assert len(noise) == len(cells) and len(more) == len(energy) > 500
    assert not np.isin(more, cells).any() and len(np.unique(more)) == len(more)


def test_primaries_are_drawn_as_they_say():
    """Kinds by their rates, energies flat in the logarithm; 4 of 10 within 0.12 of another one."""
    signal = draw_signal(4000, np.random.default_rng(0))
    first = np.unique(signal.parent, return_index=True)[1][2:]
    kinds = signal.parent_pdg[first]
    rates = [(kinds == pdg).mean() for pdg in (ELECTRON, PHOTON, PION, TAU)]
    assert rates == pytest.approx([0.30, 0.25, 0.30, 0.15], abs=0.025)
    logs = np.log(signal.particles.energy[first][kinds != TAU] / 10.0) / math.log(20.0)
    assert np.quantile(logs, [0.0, 0.25, 0.5, 0.75, 1.0]) == pytest.approx([0, 0.25, 0.5, 0.75, 1], abs=0.03)
    rng = np.random.default_rng(1)
    pairs = [draw_signal(2, rng).particles for _ in range(2000)]
    apart = np.array([math.hypot(p.eta[1] - p.eta[0], math.remainder(p.phi[1] - p.phi[0], 2 * math.pi)) for p in pairs])
    near = apart < 0.12
    assert near.mean() == pytest.approx(0.4, abs=0.04)  # chance adds 0.004
    assert np.median(apart[near]) == pytest.approx(0.12 / math.sqrt(2), abs=0.008)


def test_taus_decay_as_they_say():
    """Rates of the decays; each of n products and one neutrino has its part; sideways a part of the mass."""
    rng = np.random.default_rng(0)
    decays = [decay_tau(200.0, 2.2, 0.3, rng) for _ in range(8000)]
    kinds = [tuple(product[0] for product in products) for products in decays]
    rates = {
        (PION,): 0.108,
        (PION, PHOTON, PHOTON): 0.255,
        (PION, PION, PION): 0.093,
        (PION, PHOTON, PHOTON, PHOTON, PHOTON): 0.093,
        (ELECTRON,): 0.178,
    }
    for kind, rate in rates.items():
        own = [products for products, other in zip(decays, kinds, strict=True) if other == kind]
        assert len(own) / 8000 == pytest.approx(rate / sum(rates.values()), abs=0.02)
        visible = [sum(product[1] for product in products) / 200 for products in own]
        count = len(kind)
        assert np.mean(visible) == pytest.approx(count / (count + 1), abs=0.02)  # one at least 1 GeV adds little
        pushes = [
            (p[i] - (2.2, 0.3)[i - 2]) * p[1] / math.cosh(2.2)
            for products in own for p in products if p[1] > 60 for i in (2, 3)
        ]  # fmt: skip
        if len(pushes) > 100:
            assert np.std(pushes) == pytest.approx(1.777 / (count + 1), rel=0.1) and abs(np.mean(pushes)) < 0.1
    assert len(set(kinds)) == len(rates)
