# SPDX-License-Identifier: Apache-2.0
"""What the comparison of detectors says of given scores and times."""

import pytest

from pcperc.benchmark.detector_claims import verdicts
from pcperc.benchmark.detector_report import format_comparison
from pcperc.benchmark.detector_stages import format_stages


def rows_of(score: str = "NDS", *, blank_images: bool = False, **by_network) -> list[dict]:
    """Rows of seeds 0, 1, ... from lists of scores."""
    return [
        {"network": name, "seed": seed, "blank_images": blank_images, "iterations": 10, "parameters": 2_000_000}
        | {"first_stages": {"lidar_only": 20} if name == "joint" else {}}
        | {"scores": {score: value}}
        for name, values in by_network.items()
        for seed, value in enumerate(values)
    ]


def test_claims_are_of_mean_differences_of_seeds():
    rows = rows_of(fusion=[0.56, 0.56], lidar_longer=[0.54, 0.56]) + rows_of(fusion=[0.56, 0.56], blank_images=True)
    rows += rows_of("map/mIoU", fusion_map=[0.5, 0.6], camera_map=[0.4, 0.62], lidar_map=[0.45, 0.3])
    asked = verdicts(rows, [])
    assert [one["met"] for one in asked] == [True, True, False, True]  # exactly 0.01 above; not lower; 0.05 and -0.02
    for one, values in zip(asked, ([0.56, 0.56], [0.02, 0.0], [0.0, 0.0], [0.05, -0.02]), strict=True):
        assert one["values"] == pytest.approx(values) and one["reached"] == pytest.approx(sum(values) / 2)
    assert asked[3]["figures"] == {"camera + LiDAR": [0.5, 0.6], "cameras": [0.4, 0.62], "LiDAR": [0.45, 0.3]}
    rows = rows_of(fusion=[0.549], lidar_longer=[0.5391], joint=[0.9])  # 0.0099 above
    assert [one["met"] for one in verdicts(rows, [])] == [False, False]
    assert verdicts(rows_of(lidar_longer=[0.5]) + rows_of("map/mIoU", fusion_map=[0.5], lidar_map=[0.4]), []) == []


@pytest.mark.parametrize("amota, met", [(1.0, True), (1 - 1e-9, True), (0.999, False), (None, False)])
def test_true_boxes_are_tracked_without_fault(amota, met):
    scores = {} if amota is None else {"AMOTA": amota}
    rows = [{"boxes": boxes, "seed": None, "tracker": "kalman", "scores": scores} for boxes in ("fusion", "truth")]
    (verdict,) = verdicts([], rows)
    assert verdict["met"] == met and verdict["claim"] == "AMOTA of kalman on the true boxes"


def test_tables_say_what_is_simulated_and_what_is_missing():
    rows = rows_of(fusion=[0.56, 0.58], lidar_longer=[0.54], joint=[0.5]) + rows_of(fusion=[0.3], blank_images=True)
    rows[3]["scores"] |= {"map/mIoU": 0.4, "map/divider/IoU": 0.25, "map/divider/IoU@0.50": 0.2}
    tracking = [{"boxes": "truth", "seed": None, "tracker": "greedy", "scores": {"AMOTA": 1.0, "IDS": 0.0}}]
    found = {"options": {"seeds": [0, 1]}, "rows": rows, "tracking": tracking, "verdicts": verdicts(rows, tracking)}
    text = format_comparison(found)
    lines = {cells[0]: cells[1:] for line in text.splitlines() if len(cells := cells_of(line)) > 3}
    assert lines["camera + LiDAR"][:5] == ["2", "2.00", "10", "-", "0.570 +- 0.014"]
    assert lines["camera + LiDAR, images black"][4] == "0.300" and "LiDAR, center head" not in lines
    assert lines["camera + LiDAR, boxes and map"] == [
        "1",
        "2.00",
        "10 after 20",
        "0.400",
        "0.250",
    ]  # of the maps, the last
    assert lines["the true ones"][:3] == ["", "greedy", "1.000"]
    assert (
        "simulated, REACHED (so far 1 of 2 seeds): NDS of camera + LiDAR above LiDAR trained as long: +0.0200 "
        "(camera + LiDAR 0.5600; LiDAR trained as long 0.5400), asked for >= 0.01" in text
    )
    assert "simulated, REACHED: NDS of camera + LiDAR: 0.5700 +- 0.0141" in text
    assert "simulated, REACHED: AMOTA of greedy on the true boxes: 1.0000, asked for 1" in text
    assert text.count("(simulated)") == 3
    assert format_comparison(found | {"rows": [], "tracking": [], "verdicts": []}) == ""


def test_stages_that_a_network_lacks_are_left_empty():
    row = {"device": "cuda", "dtype": "float16", "runs": 5}
    stages = {"lidar.py": {"encoders.lidar": 3.0, "decoder.backbone": 1.0, "decoder.neck": 0.5, "total": 4.5}}
    stages["camera.py"] = {"encoders.camera.backbone": 7.25, "heads.map": 0.5, "total": 7.75}
    rows = [
        row | {"config": config, "parameters": 8_310_000, "stage": stage, "median_ms": time}
        for config, own in stages.items()
        for stage, time in own.items()
    ]
    environment = {"cuda": {"device": "a GPU"}}
    text = format_stages({"environment": environment, "input": {"name": "a sweep", "points": 12345}, "rows": rows})
    assert "a GPU, float16, median of 5, initial weights, a sweep (12,345 points)" in text
    lines = {cells[0]: cells[1:] for line in text.splitlines() if len(cells := cells_of(line)) > 3}
    assert lines["lidar.py"] == ["8.31", "", "", "", "", "3.0", "", "1.5", "", "", "", "4.5"]
    assert lines["camera.py"] == ["8.31", "", "7.2", "", "", "", "", "", "", "0.5", "", "7.8"]


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("│\n").split("│")]
