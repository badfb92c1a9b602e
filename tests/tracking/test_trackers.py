# SPDX-License-Identifier: Apache-2.0
"""Trackers against plain loops and least squares, and what they do at gaps, borders and with bad input."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcperc.geometry import Detections, Tracks
from pcperc.tracking import TRACKERS, GreedyTracker, KalmanTracker
from pcperc.tracking.greedy import GATES
from pcperc.tracking.kalman import POSITION_NOISE, VELOCITY_NOISE
from tests import oracles, oracles_tracking

CLASSES = ("car", "pedestrian", "barrier")
CAR, PEDESTRIAN, BARRIER = range(3)
SIZES = ((4.5, 2.0, 1.6), (0.7, 0.7, 1.7), (0.5, 2.0, 1.0))


def detections(*rows, scores=None) -> Detections:
    """Rows of (x, y, vx, vy, label)."""
    boxes = np.array([[x, y, 1.0, *SIZES[label], 0.0, vx, vy] for x, y, vx, vy, label in rows]).reshape(-1, 9)
    scores = np.linspace(0.9, 0.6, len(rows)) if scores is None else np.array(scores)
    return Detections(boxes, scores.astype(np.float32), np.array([row[4] for row in rows], np.int64))


def follow(tracker, *frames, step=0.5) -> list[list[int]]:
    return [tracker.step(frame, 10 + step * i).ids.tolist() for i, frame in enumerate(frames)]


rows = st.lists(
    st.tuples(st.integers(-6, 6), st.integers(-6, 6), st.integers(-4, 4), st.integers(-4, 4), st.integers(0, 1)),
    max_size=5,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.25, 0.5, 1.0]), rows), min_size=1, max_size=6), st.integers(1, 4))
def test_greedy_is_the_published_tracker(frames, max_age):
    tracker, time, got = GreedyTracker(CLASSES, max_age=max_age), 100.0, []
    for seconds, found in frames:
        time += seconds  # quarters of a second: exact in binary
        # Centres off the grid by row, so that no two distances are equal.
        got.append(tracker.step(detections(*shifted(found)), time).ids.tolist())
    gates = {CAR: GATES["car"], PEDESTRIAN: GATES["pedestrian"]}
    first, *rest = frames
    expected = oracles_tracking.greedy_tracks(
        [(0.0, shifted(first[1])), *((seconds, shifted(found)) for seconds, found in rest)], gates, max_age=max_age
    )
    assert got == expected


def shifted(found):
    return [(x + 0.013 * i, y + 0.007 * i * i, vx, vy, label) for i, (x, y, vx, vy, label) in enumerate(found)]


@pytest.mark.parametrize("name", TRACKERS)
class TestAllTrackers:
    def test_numbers_stay_with_objects_that_cross(self, name):
        frames = [detections((-6 + 3 * i, 0, 6, 0, CAR), (6 - 3 * i, 1.5, -6, 0, CAR)) for i in range(5)]
        assert follow(TRACKERS[name](CLASSES), *frames) == [[1, 2]] * 5

    def test_a_track_outlives_samples_in_which_nothing_is_seen(self, name):
        seen = [detections((4.0 * i, 0, 8, 0, CAR)) for i in range(5)]
        nothing = detections()
        assert follow(TRACKERS[name](CLASSES), seen[0], nothing, nothing, seen[3]) == [[1], [], [], [1]]
        assert follow(TRACKERS[name](CLASSES), seen[0], nothing, nothing, nothing, seen[4]) == [[1], [], [], [], [2]]

    def test_a_lost_sample_is_a_longer_step(self, name):
        """The recording skips two samples: 1.5 s between two that are there, in which the car drove 12 m."""
        tracker = TRACKERS[name](CLASSES)
        assert tracker.step(detections((0, 0, 8, 0, CAR)), 1.0).ids.tolist() == [1]
        assert tracker.step(detections((12.0, 0, 8, 0, CAR)), 2.5).ids.tolist() == [1]

    def test_classes_do_not_mix_and_some_are_not_followed(self, name):
        tracker = TRACKERS[name](CLASSES)
        first = tracker.step(detections((0, 0, 0, 0, CAR), (9, 0, 0, 0, BARRIER)), 0.0)
        second = tracker.step(detections((0, 0, 0, 0, PEDESTRIAN)), 0.5)
        assert (first.labels.tolist(), first.ids.tolist(), second.ids.tolist()) == ([CAR], [1], [2])

    def test_a_new_scene_shares_no_number_and_may_be_earlier(self, name):
        tracker = TRACKERS[name](CLASSES)
        tracker.step(detections((0, 0, 0, 0, CAR)), 50.0)
        tracker.reset()
        assert tracker.step(detections((0, 0, 0, 0, CAR)), 20.0).ids.tolist() == [2]

    def test_unknown_velocity_and_nothing_at_all(self, name):
        nan = float("nan")
        frames = [detections((0.3 * i, 0, nan, nan, CAR)) for i in range(3)]
        assert follow(TRACKERS[name](CLASSES), detections(), *frames) == [[], [1], [1], [1]]

    def test_result_is_tracks_in_the_given_order(self, name):
        found = detections((20, 0, 0, 0, CAR), (0, 0, 0, 0, PEDESTRIAN), (-20, 0, 0, 0, CAR))
        tracks = TRACKERS[name](CLASSES).step(found, 0.0)
        assert isinstance(tracks, Tracks)
        np.testing.assert_allclose(tracks.boxes, found.boxes)
        np.testing.assert_array_equal(tracks.scores, found.scores)

    def test_bad_input(self, name):
        tracker = TRACKERS[name](CLASSES)
        tracker.step(detections(), 1.0)
        with pytest.raises(ValueError, match=r"timestamp must be later than the last, 1.0 s, got 1.0 s"):
            tracker.step(detections(), 1.0)
        with pytest.raises(ValueError, match=r"must be finite at 2.0 s"):
            tracker.step(detections((float("inf"), 0, 0, 0, CAR)), 2.0)
        wrong = detections((0, 0, 0, 0, CAR))
        with pytest.raises(ValueError, match=r"labels must be in \[0, 3\), got \[7\]"):
            tracker.step(Detections(wrong.boxes, wrong.scores, wrong.labels + 7), 2.0)
        with pytest.raises(ValueError, match="max_age must be 1 or more, got 0"):
            TRACKERS[name](CLASSES, max_age=0)
        with pytest.raises(ValueError, match=r"classes must have one of bicycle, .*, got \['tree'\]"):
            TRACKERS[name](["tree"])


def overlap(a, b):
    return oracles.box_iou(np.array([a[:7]]), np.array([b[:7]]), use_height=False)[0, 0]


def random_scene(seed: int) -> list[tuple[float, list]]:
    """Objects that drive, turn, vanish for a while and come back, told twice or by chance; some without velocity."""
    rng = np.random.default_rng(seed)
    places, speeds = rng.uniform(-4, 4, (4, 2)), rng.uniform(-6, 6, (4, 2))
    frames = []
    for number in range(6):
        seconds = rng.choice([0.25, 0.5, 1.0]) if number else 0.0
        places, speeds = places + speeds * seconds, speeds + rng.normal(0, 2, (4, 2)) * seconds
        found = []
        for object_, (place, speed) in enumerate(zip(places, speeds, strict=True)):
            label = object_ % 2
            for _ in range(rng.choice([0, 1, 1, 1, 2])):
                speed = np.full(2, np.nan) if rng.random() < 0.3 else speed + rng.normal(0, 1, 2)
                box = [*(place + rng.normal(0, 0.6, 2)), 1.0, *SIZES[label], rng.uniform(-3, 3), *speed]
                found.append((box, rng.uniform(0.0, 1.0), label))
        frames.append((seconds, sorted(found, key=lambda one: -one[1])))
    return frames


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("max_age", [1, 3])
def test_kalman_is_the_filter_of_the_loops(seed, max_age):
    frames, options = random_scene(seed), dict(max_age=max_age, min_score=0.1, nms_iou=0.3)
    accelerations = {CAR: 3.0, PEDESTRIAN: 1.5}
    expected = oracles_tracking.kalman_tracks(
        frames, accelerations, overlap=overlap, gate=16.0, noises=(0.4, 2.0, 8.0), **options
    )
    tracker, time = KalmanTracker(CLASSES, **options), 5.0
    for (seconds, found), wanted in zip(frames, expected, strict=True):
        time += seconds
        boxes, scores, labels = (np.array([one[i] for one in found]) for i in range(3))
        tracks = tracker.step(Detections(boxes.reshape(-1, 9), scores, labels.astype(np.int64)), time)
        assert tracks.ids.tolist() == [one[1] for one in wanted]
        rows = [one[0] for one in wanted]
        np.testing.assert_allclose(
            tracks.boxes[:, [0, 1, 7, 8]].reshape(-1, 4), np.reshape([o[2:] for o in wanted], (-1, 4))
        )
        np.testing.assert_array_equal(tracks.boxes[:, 2:7], boxes.reshape(-1, 9)[rows, 2:7])
        np.testing.assert_array_equal(tracks.scores, scores[rows])


@pytest.mark.parametrize(("seconds", "gate"), [(0.25, 4.0), (0.5, 4.0), (1.0, 8.0)])
def test_greedys_gate_grows_with_time_and_never_shrinks(seconds, gate):
    for away, number in ((gate, 1), (gate + 0.01, 2)):
        tracker = GreedyTracker(CLASSES)
        tracker.step(detections((0, 0, 0, 0, CAR)), 1.0)
        assert tracker.step(detections((away, 0, 0, 0, CAR)), 1.0 + seconds).ids.tolist() == [number]


def test_the_published_gates():
    published = dict(car=4, truck=4, bus=5.5, trailer=3, pedestrian=1, motorcycle=13, bicycle=3)
    assert published == GATES


def test_greedy_leaves_out_faint_boxes_where_asked_to():
    found = detections((0, 0, 0, 0, CAR), (30, 0, 0, 0, CAR), scores=[0.5, 0.25])
    assert GreedyTracker(CLASSES, min_score=0.5).step(found, 0.0).ids.tolist() == [1]
    assert GreedyTracker(CLASSES).step(found, 0.0).ids.tolist() == [1, 2]


def test_kalman_without_surprises_is_least_squares():
    rng = np.random.default_rng(0)
    times = np.array([0.0, 0.5, 1.1, 1.5, 2.1])
    measured = rng.normal(0, 0.1, (5, 4)) + np.stack([3 * times, -2 * times, 3 + 0 * times, -2 + 0 * times], 1)
    tracker = KalmanTracker(CLASSES, accelerations={"car": 0.0})
    for time, row in zip(times, measured, strict=True):
        tracks = tracker.step(detections((*row, CAR)), 10 + time)
    assert tracks.ids.tolist() == [1]
    noise = {"position_noise": POSITION_NOISE, "velocity_noise": VELOCITY_NOISE}
    for axis in range(2):
        fit = oracles_tracking.constant_velocity_fit(times, measured[:, axis], measured[:, 2 + axis], **noise)
        np.testing.assert_allclose(tracks.boxes[0, [axis, 7 + axis]], fit, atol=1e-9)


def test_kalman_leaves_out_doubles_and_faint_boxes():
    found = detections((0, 0, 0, 0, CAR), (0.5, 0, 0, 0, CAR), (30, 0, 0, 0, CAR), scores=[0.6, 0.9, 0.01])
    tracks = KalmanTracker(CLASSES).step(found, 0.0)
    np.testing.assert_allclose(tracks.scores, [0.9])


def test_kalman_takes_the_cheapest_assignment_not_the_first():
    """The better scored detection lies nearest to the track of the other: greedy takes that one away from it."""
    before = detections((0, 0, 0, 0, PEDESTRIAN), (1.0, 0, 0, 0, PEDESTRIAN))
    after = detections((0.6, 0, 0, 0, PEDESTRIAN), (1.5, 0, 0, 0, PEDESTRIAN))
    assert follow(KalmanTracker(CLASSES), before, after)[1] == [1, 2]
    assert follow(GreedyTracker(CLASSES), before, after)[1] == [2, 3]


def test_tracks_check_their_numbers():
    one = detections((0, 0, 0, 0, CAR), (9, 0, 0, 0, CAR))
    with pytest.raises(ValueError, match=r"ids must be \(2,\), got \(1,\)"):
        Tracks(one.boxes, one.scores, one.labels, np.array([1]))
    with pytest.raises(ValueError, match=r"ids must be different integers, got \[3, 3\]"):
        Tracks(one.boxes, one.scores, one.labels, np.array([3, 3]))
    tensors = Tracks(*map(torch.from_numpy, (one.boxes, one.scores, one.labels, np.array([5, 6]))))
    kept = tensors.to("cpu").filter(torch.tensor([False, True])).numpy()
    assert kept.ids.tolist() == [6] and isinstance(kept, Tracks) and len(Tracks.empty().numpy().ids) == 0
