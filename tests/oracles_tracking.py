# SPDX-License-Identifier: Apache-2.0
"""Plain loops for tracking and for the filters behind it; nothing here imports pcperc."""

import itertools
import math

import numpy as np


def greedy_tracks(frames, gates, *, max_age):
    """The greedy velocity tracker on one scene.

    Args:
        frames: list of (seconds since the last frame, [(x, y, vx, vy, label), ...]).
        gates: metres by label for frames half a second apart.
    Returns:
        A list a frame of the numbers of its detections, counted from 1.
    """
    tracks, answer, last = [], [], 0
    for seconds, found in frames:
        numbers, next_tracks, free = [], [], list(tracks)
        for x, y, vx, vy, label in found:
            best, best_distance = None, math.inf
            for track in free:
                if track["label"] != label:
                    continue
                distance = math.hypot(x - vx * seconds - track["x"], y - vy * seconds - track["y"])
                if distance <= gates[label] * max(1.0, seconds / 0.5) and distance < best_distance:
                    best, best_distance = track, distance
            if best is None:
                last += 1
                number = last
            else:
                free.remove(best)
                number = best["number"]
            numbers.append(number)
            next_tracks.append({"number": number, "label": label, "x": x, "y": y, "vx": vx, "vy": vy, "missed": 0})
        for track in free:
            missed = track["missed"] + 1
            if missed < max_age:
                moved = {"x": track["x"] + track["vx"] * seconds, "y": track["y"] + track["vy"] * seconds}
                next_tracks.append({**track, **moved, "missed": missed})
        tracks = next_tracks
        answer.append(numbers)
    return answer


def constant_velocity_fit(times, positions, velocities, *, position_noise, velocity_noise):
    """Position at the last time and velocity, by weighted least squares over all measurements of one coordinate."""
    rows, values = [], []
    for time, position, velocity in zip(times, positions, velocities, strict=True):
        rows += [[1 / position_noise, (time - times[-1]) / position_noise], [0, 1 / velocity_noise]]
        values += [position / position_noise, velocity / velocity_noise]
    return np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)[0]


def kalman_tracks(frames, accelerations, *, overlap, max_age, min_score, nms_iou, gate, noises):
    """Constant-velocity filters matched at once, on one scene, each coordinate by its own formulas.

    Args:
        frames: list of (seconds since the last frame, [(box of nine numbers, score, label), ...]), best score first.
        accelerations: m/s^2 by label.
        overlap: intersection over union from above of two boxes.
        gate: of the squared distance of a detection in standard deviations.
        noises: of a position, of a velocity, and of the velocity of a detection that does not tell any.
    Returns:
        A list a frame of (row in the frame, number, x, y, vx, vy) of the detections that are kept, by row.
    """
    position_noise, velocity_noise, unknown_velocity = noises
    tracks, answer, last = [], [], 0
    for seconds, found in frames:
        for track in tracks:
            _predict(track, seconds, accelerations[track["label"]])
        rows = []
        for row, (box, score, label) in enumerate(found):  # the best come first
            near = [overlap(found[r][0], box) > nms_iou for r in rows if found[r][2] == label]
            if score >= min_score and not any(near):
                rows.append(row)
        mine = {}
        for label in sorted({found[row][2] for row in rows}):
            own = [row for row in rows if found[row][2] == label]
            mine |= _cheapest([found[row][0] for row in own], own, [t for t in tracks if t["label"] == label], overlap,
                              gate=gate, noise=position_noise)  # fmt: skip
        reports = []
        for row in rows:
            box, _, label = found[row]
            known = not math.isnan(box[7])
            if row not in mine:
                last += 1
                speed, spread = (box[7:9], velocity_noise) if known else ((0.0, 0.0), unknown_velocity)
                mine[row] = {"number": last, "label": label, "p": list(box[:2]), "v": list(speed)}
                mine[row]["cov"] = (position_noise**2, 0.0, spread**2)
                tracks.append(mine[row])
            else:
                _correct(mine[row], box, known, position_noise, velocity_noise)
            mine[row] |= {"box": box, "missed": -1}
            reports.append((row, mine[row]["number"], *mine[row]["p"], *mine[row]["v"]))
        for track in tracks:
            track["missed"] += 1
        tracks = [track for track in tracks if track["missed"] < max_age]
        answer.append(reports)
    return answer


def _predict(track, dt, acceleration):
    """Move on; an unknown push, constant for dt, adds to the variances. ``cov``: of place, of both, of speed."""
    a, b, c = track["cov"]
    q = acceleration**2
    track["p"] = [p + v * dt for p, v in zip(track["p"], track["v"], strict=True)]
    track["cov"] = (a + 2 * b * dt + c * dt**2 + q * dt**4 / 4, b + c * dt + q * dt**3 / 2, c + q * dt**2)


def _correct(track, box, known, position_noise, velocity_noise):
    """Kalman's update of each coordinate by a place and, where it is known, a speed, with the inverse written out."""
    a, b, c = track["cov"]
    sa, sc = a + position_noise**2, c + velocity_noise**2
    det = sa * sc - b * b
    gain = [[(a * sc - b * b) / det, (b * sa - a * b) / det], [(b * sc - c * b) / det, (c * sa - b * b) / det]]
    if not known:
        gain = [[a / sa, 0.0], [b / sa, 0.0]]
    for axis in range(2):
        off = box[axis] - track["p"][axis]
        faster = box[7 + axis] - track["v"][axis] if known else 0.0
        track["p"][axis] += gain[0][0] * off + gain[0][1] * faster
        track["v"][axis] += gain[1][0] * off + gain[1][1] * faster
    (kpp, kpv), (kvp, kvv) = gain
    track["cov"] = ((1 - kpp) * a - kpv * b, (1 - kpp) * b - kpv * c, -kvp * b + (1 - kvv) * c)


def _cheapest(boxes, rows, tracks, overlap, *, gate, noise):
    """Row to track of the cheapest of all ways to match as many as the gate lets."""
    cost = {}
    for i, box in enumerate(boxes):
        for j, track in enumerate(tracks):
            squared = sum((b - p) ** 2 for b, p in zip(box[:2], track["p"], strict=True)) / (track["cov"][0] + noise**2)
            if squared < gate:
                cost[i, j] = squared / gate + 1 - overlap([*track["p"], *track["box"][2:]], box)
    best = (0, 0.0, {})
    ways = [None] * len(boxes) + list(range(len(tracks)))
    for way in set(itertools.permutations(ways, len(boxes))):
        pairs = {(i, j) for i, j in enumerate(way) if j is not None}
        if pairs <= cost.keys():
            best = min(best, (-len(pairs), sum(cost[pair] for pair in pairs), dict(pairs)), key=lambda one: one[:2])
    return {rows[i]: tracks[j] for i, j in best[2].items()}
