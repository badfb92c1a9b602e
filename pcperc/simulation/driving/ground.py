# SPDX-License-Identifier: Apache-2.0
"""The ground under and beside the streets of `road.py`: what it is made of and painted with, and where rays meet it.

The functions are compiled; they take ``r``, which is ``Road.table()``, and ``Road.carparks``.
"""

import math

from pcperc.simulation.jit import cached_njit

ASPHALT, PAVEMENT, VERGE, CARPARK, WHITE, YELLOW, CURB, OFF = range(8)
CURB_HEIGHT = 0.15
PAVEMENT_WIDTH = 3.2
CORNER_RADIUS = 5.0
STEEPEST = 0.45  # bound of the slope of ``ground_rise`` for a relief of 1 m
CROSSING_NEAR, CROSSING_FAR = 1.5, 5.0  # from the edge of the junction
STOP_LINE, STOP_LINE_WIDTH = 6.0, 0.45


@cached_njit
def to_road(r, x, y):
    """Return (s, d) on the main road and (s, d) on the cross road of a world point; ``r`` is ``Road.table()``."""
    px, py = x - r[0], y - r[1]
    u, v = r[2] * px + r[3] * py, r[2] * py - r[3] * px
    bend = r[4] if u < 0.0 else r[5]
    if abs(bend) < 1e-9:
        s, d = u, v
    else:
        radius = 1.0 / bend
        sign = 1.0 if radius > 0.0 else -1.0
        d = radius - sign * math.hypot(u, v - radius)
        s = radius * math.atan2(sign * u, sign * (radius - v))
    px, py = x - r[11], y - r[12]
    along, aside = r[13] * px + r[14] * py, r[13] * py - r[14] * px
    return s, d, aside, -along


@cached_njit
def _main_paint(r, s, d, gap):
    """Return what is painted at (s, d), s from the middle of the junction; ``gap``: metres to its edge."""
    lane, lanes = r[7], r[6]
    if CROSSING_NEAR < gap < CROSSING_FAR:
        return WHITE if (d % 1.0) < 0.5 else ASPHALT
    if gap < CROSSING_FAR:
        return ASPHALT
    side = abs(d)
    if STOP_LINE < gap < STOP_LINE + STOP_LINE_WIDTH and side < lanes * lane:
        # Only the lanes that run towards the junction stop here: with right-hand traffic those with d < 0 before it.
        return WHITE if (d < 0.0) == (s < 0.0) and side > 0.3 else ASPHALT
    if 0.08 < side < 0.2:
        return YELLOW
    if abs(side - lanes * lane) < 0.07:
        return WHITE
    if gap > STOP_LINE:
        for i in range(1, int(lanes)):
            if abs(side - i * lane) < 0.07 and (s % 9.0) < 3.0:
                return WHITE
    return ASPHALT


@cached_njit
def ground_kind(r, carparks, x, y):
    """Return (kind of ground, signed distance to the curb; negative on the road) at a world point."""
    s, d, s2, d2 = to_road(r, x, y)
    over1, over2 = abs(d) - r[8], abs(d2) - r[10]
    edge = min(over1, over2)
    if 0.0 < over1 < CORNER_RADIUS and 0.0 < over2 < CORNER_RADIUS:
        edge = min(edge, CORNER_RADIUS - math.hypot(CORNER_RADIUS - over1, CORNER_RADIUS - over2))
    if edge <= 0.0:
        if over1 <= 0.0 and over2 > 0.0:
            return _main_paint(r, s - r[9], d, over2), edge
        if over2 <= 0.0 and over1 > 0.0:
            return _cross_paint(r, s2, d2, over1), edge
        return ASPHALT, edge
    if edge < 0.18:
        return CURB, edge
    if edge < PAVEMENT_WIDTH:
        return PAVEMENT, edge
    for i in range(carparks.shape[0]):
        px, py = x - carparks[i, 0], y - carparks[i, 1]
        c, k = math.cos(carparks[i, 4]), math.sin(carparks[i, 4])
        along, aside = c * px + k * py, c * py - k * px
        if abs(along) < carparks[i, 2] and abs(aside) < carparks[i, 3]:
            bay = (along + carparks[i, 2]) % 2.7
            line = (bay < 0.06 or bay > 2.64) and abs(aside) > carparks[i, 3] - 5.0
            return (WHITE if line else CARPARK), edge
    return VERGE, edge


@cached_njit
def _cross_paint(r, s, d, gap):
    """The same for the cross road, which has no shoulder."""
    if CROSSING_NEAR < gap < CROSSING_FAR:
        return WHITE if (d % 1.0) < 0.5 else ASPHALT
    if gap < CROSSING_FAR:
        return ASPHALT
    side = abs(d)
    if STOP_LINE < gap < STOP_LINE + STOP_LINE_WIDTH:
        return WHITE if (d < 0.0) == (s < 0.0) and side > 0.3 else ASPHALT
    if 0.08 < side < 0.2:
        return YELLOW
    for i in range(1, int(r[16])):
        if abs(side - i * r[7]) < 0.07 and (s % 9.0) < 3.0:
            return WHITE
    return ASPHALT


@cached_njit
def _smooth(u):
    """Rise from 0 to 1 as u does, level at both ends."""
    u = min(max(u, 0.0), 1.0)
    return u * u * (3.0 - 2.0 * u)


@cached_njit
def ground_rise(r, carparks, x, y):
    """Return how far the ground lies above the pavement: a bank behind the street with waves of some 40 m, level around
    car parks. Its slope stays below ``STEEPEST`` times the relief."""
    _, d, _, d2 = to_road(r, x, y)
    rise = r[17] * _smooth((min(abs(d) - r[8], abs(d2) - r[10]) - PAVEMENT_WIDTH) / 12.0)
    if rise == 0.0:
        return 0.0
    for i in range(carparks.shape[0]):
        px, py = x - carparks[i, 0], y - carparks[i, 1]
        c, k = math.cos(carparks[i, 4]), math.sin(carparks[i, 4])
        along, aside = abs(c * px + k * py) - carparks[i, 2], abs(c * py - k * px) - carparks[i, 3]
        rise *= _smooth(max(along, aside) / 8.0)
    return rise * (0.6 + 0.4 * math.sin(x / 6.0 + r[18]) * math.cos(y / 7.0 - r[18]))


@cached_njit
def ground_hit(r, carparks, ox, oy, oz, dx, dy, dz):
    """Meet the ground. Returns (t, kind, steepness: 1 where it is the curb's face)."""
    t, kind, steep = _level_hit(r, carparks, ox, oy, oz, dx, dy, dz)
    if r[17] == 0.0:
        return t, kind, steep
    # The bank lies above the level ground: look for it before that. No step can pass through it.
    closing = STEEPEST * r[17] * math.sqrt(dx * dx + dy * dy) - dz
    reached = 0.0
    while closing > 0.0 and reached < min(t, 200.0):
        x, y = ox + reached * dx, oy + reached * dy
        rise = ground_rise(r, carparks, x, y)
        gap = oz + reached * dz - CURB_HEIGHT - rise
        if gap < 0.005:
            return (reached, VERGE, 0.0) if rise > 0.0 else (t, kind, steep)
        reached += max(gap / closing, 0.005)
    return t, kind, steep


@cached_njit
def _level_hit(r, carparks, ox, oy, oz, dx, dy, dz):
    """Meet the ground: two levels joined by the curb. Returns (t, kind, steepness: 1 where it is the curb's face)."""
    if dz >= -1e-6:
        return 1e30, OFF, 0.0
    t = (CURB_HEIGHT - oz) / dz
    if t > 0.0:
        kind, edge = ground_kind(r, carparks, ox + t * dx, oy + t * dy)
        if edge > 0.0:
            return t, kind, 0.0
        low = -oz / dz
        kind, edge = ground_kind(r, carparks, ox + low * dx, oy + low * dy)
        if edge <= 0.0:
            return low, kind, 0.0
        for _ in range(30):  # the curb's face lies between the two levels: halve the interval
            middle = 0.5 * (t + low)
            if ground_kind(r, carparks, ox + middle * dx, oy + middle * dy)[1] > 0.0:
                low = middle
            else:
                t = middle
        return low, CURB, 1.0
    t = -oz / dz
    if t <= 0.0:
        return 1e30, OFF, 0.0
    return t, ground_kind(r, carparks, ox + t * dx, oy + t * dy)[0], 0.0
