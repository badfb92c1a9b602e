# SPDX-License-Identifier: Apache-2.0
"""How surfaces, ground and sky look: linear RGB from material, light and a little procedural texture."""

from __future__ import annotations

import math

from pcperc.simulation.driving.ground import CARPARK, CURB, PAVEMENT, VERGE, WHITE, YELLOW
from pcperc.simulation.driving.intersect import hash_unit, value_noise
from pcperc.simulation.driving.shapes import (
    BANDS,
    CABIN,
    FACADE,
    FOLIAGE,
    GLASS,
    LAMP,
    PAINT,
    STRIPES,
    TYRE,
    WINDOW_BAND,
)
from pcperc.simulation.jit import cached_njit


@cached_njit
def paint_sky(light, dx, dy, dz, seed, rgb):
    """Sky in a direction: blue above, pale at the horizon, clouds. ``light`` is ``Light.table()``."""
    up = max(dz, 0.0)
    fade = math.exp(-4.5 * up)
    clouds = light[6]
    rgb[0] = (0.16 + 0.12 * clouds) * (1 - fade) + 0.62 * fade
    rgb[1] = (0.30 + 0.02 * clouds) * (1 - fade) + 0.68 * fade
    rgb[2] = (0.62 - 0.25 * clouds) * (1 - fade) + 0.74 * fade
    if up > 0.03:
        x, y = dx / (up + 0.12) * 1.3, dy / (up + 0.12) * 1.3
        puff = (
            0.55 * value_noise(x, y, seed % 97)
            + 0.3 * value_noise(2.3 * x, 2.3 * y, seed % 89)
            + 0.15 * value_noise(5.1 * x, 5.1 * y, seed % 83)
        )
        part = min(max((puff - 0.75 + 0.5 * clouds) * 4.0, 0.0), 1.0) * (1 - fade)
        for k in range(3):
            rgb[k] += part * (0.80 - rgb[k])
    glow = max(dx * light[0] + dy * light[1] + dz * light[2], 0.0) ** 24 * light[3]
    for k in range(3):
        rgb[k] += 0.5 * glow


@cached_njit
def _shade(light, nx, ny, nz, lit, rgb):
    """Multiply a colour by the light that falls on a surface: sun, sky from above, and a little from the ground."""
    sun = max(nx * light[0] + ny * light[1] + nz * light[2], 0.0) * light[3] * lit
    sky = light[4] * (0.62 + 0.38 * nz)
    rgb[0] *= sun * 1.05 + sky * 0.95
    rgb[1] *= sun + sky
    rgb[2] *= sun * 0.90 + sky * 1.08


@cached_njit
def paint_ground(road, light, kind, steep, x, y, t, lit, seed, rgb):
    """Paint the ground; texture fades with the distance ``t``, where a pixel covers more than one grain."""
    near = math.exp(-t / 25.0)
    coarse = value_noise(x * 0.35, y * 0.35, 3.0) - 0.5
    fine = (value_noise(x * 9.0, y * 9.0, 5.0) - 0.5) * near
    if kind == PAVEMENT:
        slab = near * (0.06 if (x % 1.2) < 0.04 or (y % 1.2) < 0.04 else 0.0)
        r, g, b = 0.36 - slab, 0.34 - slab, 0.31 - slab
    elif kind == CURB:
        r, g, b = 0.42, 0.41, 0.39
    elif kind == VERGE:
        grass = min(max((road[15] - 0.5 + 0.9 * coarse) * 3.0 + 0.5, 0.0), 1.0)
        r, g, b = 0.33 - 0.24 * grass, 0.30 - 0.13 * grass, 0.25 - 0.20 * grass
    elif kind == WHITE:
        r, g, b = 0.62, 0.62, 0.60
    elif kind == YELLOW:
        r, g, b = 0.58, 0.40, 0.06
    elif kind == CARPARK:
        r, g, b = 0.15, 0.15, 0.15
    else:
        patch = 0.035 * (value_noise(x * 0.08, y * 0.08, 9.0 + seed % 7) > 0.6)
        r, g, b = 0.125 - patch, 0.125 - patch, 0.13 - patch
    wear = 1.0 + 0.35 * coarse + 0.45 * fine
    rgb[0], rgb[1], rgb[2] = r * wear, g * wear, b * wear
    _shade(light, 0.0, 0.0, 1.0 if steep < 0.5 else 0.1, lit, rgb)


@cached_njit
def _mix(rgb, colour, share):
    for k in range(3):
        rgb[k] += share * (colour[k] - rgb[k])


@cached_njit
def _reflect(n, view, rgb, share):
    """Mix in what a smooth surface mirrors: sky above the horizon, dark street below."""
    cosine = n[0] * view[0] + n[1] * view[1] + n[2] * view[2]
    up = view[2] - 2 * cosine * n[2]
    fresnel = share + (0.75 - share) * (1 - min(abs(cosine), 1.0)) ** 4
    fade = math.exp(-3.0 * max(up, 0.0))
    bright = 1.0 if up > 0.05 else 0.25 + 0.75 * max(up + 0.15, 0.0) / 0.2
    rgb[0] += fresnel * ((0.20 + 0.40 * fade) * bright - rgb[0])
    rgb[1] += fresnel * ((0.30 + 0.36 * fade) * bright - rgb[1])
    rgb[2] += fresnel * ((0.48 + 0.26 * fade) * bright - rgb[2])


@cached_njit
def _window(g, face, lx, ly, lz, p):
    """Whether a facade has a window here, and how bright it is; storeys of 3.2 m, bays of about 2.6 m."""
    across, half = (ly, g[4]) if face <= 2 else (lx, g[3])
    bays = max(math.floor(2 * half / 2.6), 1.0)
    a = (across + half) / (2 * half) * bays
    storey = (lz + g[5]) / 3.2
    pa, ps = a - math.floor(a), storey - math.floor(storey)
    style = hash_unit(p, 7, 7)
    inset = 0.12 + 0.16 * style
    if pa < inset or pa > 1 - inset or ps < 0.28 or ps > 0.80 or storey > 2 * g[5] / 3.2 - 0.15:
        return -1.0
    return hash_unit(int(math.floor(a)), int(math.floor(storey)), p)


@cached_njit
def _take(rgb, colour):
    rgb[0], rgb[1], rgb[2] = colour[0], colour[1], colour[2]


@cached_njit
def _paint_cabin(g, face, rise, lx, ly, lz, accent, rgb):
    """Glass all round below a painted roof, pillars at the corners; return how glossy it is."""
    side = abs(ly) > g[4] - 0.5 * g[10] - 0.25 if face > 2 else True
    along = (lx + g[3]) / (2 * g[3])
    pillar = face > 2 and face < 5 and (along < 0.06 or along > 0.94 or abs(along - 0.5) < 0.025)
    edge = face <= 2 and abs(ly) > g[4] - g[10] * (lz + g[5]) - 0.07
    if rise > 0.90 or face >= 5 or pillar or edge or not side:
        _take(rgb, accent)
        return 0.06
    return 0.16


@cached_njit
def _paint_window_band(g, face, rise, lx, ly, accent, rgb):
    """A bus: a wind-screen and a band of windows in a painted body; return how glossy it is."""
    bay = (lx * 0.62) % 1.0
    if face <= 2 and 0.34 < rise < 0.82 and abs(ly) < g[4] - 0.12:
        _take(rgb, accent)
        return 0.16
    if (face == 3 or face == 4) and 0.42 < rise < 0.80 and bay > 0.08:
        _take(rgb, accent)
        return 0.16
    if rise < 0.10:
        _mix(rgb, (0.03, 0.03, 0.03), 0.8)
        return 0.0
    return 0.04


@cached_njit
def _paint_facade(g, face, place, accent, p, rgb):
    """A house with windows, or the ribs of a container where there is no accent; return how glossy it is."""
    x, y, z, lx, ly, lz = place
    if accent[0] + accent[1] + accent[2] < 1e-6:
        wave = 0.8 + 0.2 * math.sin((lx if face > 2 else ly) * 22.0)
        for k in range(3):
            rgb[k] *= wave
        return 0.0
    if face >= 5:
        return 0.0
    pane = _window(g, face, lx, ly, lz, p)
    if pane >= 0.0:
        for k in range(3):
            rgb[k] = accent[k] * (0.5 + 1.2 * pane)
        return 0.14
    grain = 0.85 + 0.3 * value_noise(x * 1.7, y * 1.7, z * 1.7)
    for k in range(3):
        rgb[k] *= grain
    return 0.0


@cached_njit
def _paint_material(g, material, colour, accent, place, face, p, rgb):
    """Paint what a material is made of, before light falls on it; return how glossy it is."""
    x, y, z, lx, ly, lz = place
    rise = (lz + g[5]) / (2 * g[5])
    _take(rgb, colour)
    if material == PAINT:
        if rise < 0.12:
            _mix(rgb, (0.02, 0.02, 0.02), 0.7)
        return 0.06
    if material == GLASS:
        return 0.16
    if material == CABIN:
        return _paint_cabin(g, face, rise, lx, ly, lz, accent, rgb)
    if material == WINDOW_BAND:
        return _paint_window_band(g, face, rise, lx, ly, accent, rgb)
    if material == FACADE:
        return _paint_facade(g, face, place, accent, p, rgb)
    if material == FOLIAGE:
        leaf = (
            0.35 + 1.0 * value_noise(x * 7.0, y * 7.0, z * 7.0) + 0.5 * (value_noise(x * 1.6, y * 1.6, z * 1.6) - 0.5)
        )
        for k in range(3):
            rgb[k] *= leaf
    elif material == STRIPES:
        if ((ly + lz) * 4.0) % 1.0 < 0.5:
            _take(rgb, accent)
    elif material == BANDS:
        if 0.38 < rise < 0.56 or 0.68 < rise < 0.80:
            _take(rgb, accent)
    elif material == TYRE:
        if face >= 5 and lx * lx + lz * lz < (0.62 * g[3]) ** 2:
            _take(rgb, accent)
    return 0.0


@cached_njit
def paint_surface(g, material, colour, accent, light, n, place, view, face, p, rgb):
    """Paint a primitive. ``n``: normal; ``place``: world x, y, z and local x, y, z; ``view``: direction of sight."""
    if material == LAMP:
        for k in range(3):
            rgb[k] = 0.9 * colour[k] + 0.08
        return
    gloss = _paint_material(g, material, colour, accent, place, face, p, rgb)
    _, _, _, lx, ly, lz = place
    dirt = 0.92 + 0.16 * value_noise(lx * 3.0 + p, ly * 3.0, lz * 3.0)
    for k in range(3):
        rgb[k] *= dirt
    _shade(light, n[0], n[1], n[2], 1.0, rgb)
    if gloss > 0.0:
        _reflect(n, view, rgb, gloss)
