# SPDX-License-Identifier: Apache-2.0
"""Plain loops for tracking and for the filters behind it; nothing here imports pcperc."""

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
