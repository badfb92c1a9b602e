# SPDX-License-Identifier: Apache-2.0
"""The comparison of detectors: which runs the whole family is made of, by tools that only pretend."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pcperc.benchmark import detectors, jobs
from pcperc.benchmark.detector_options import BOTH, CONFIGS, CompareOptions, check_options
from pcperc.benchmark.detector_tracking import tracked_boxes
from pcperc.benchmark.detectors import compare_detectors
from pcperc.datasets import MAP_CLASSES
from pcperc.engine.checkpoint import save_checkpoint, write_finished_marker
from pcperc.engine.config import ConfigError, load_config, plain_config
from tests.in_process import run_in_process
from tests.nuscenes_root import write_tiny_root

NDS = {"simulated": 0.6, "lidar_longer_simulated": 0.58, "lidar_only_simulated": 0.5}


def write_training(folder: Path, config: Path, seed: int, *, amp: bool = False, **overrides: str) -> None:
    """Write what a finished training leaves, without weights; it has an iteration an epoch."""
    cfg = load_config(config, overrides)
    cfg["seed"] = seed
    if amp:
        cfg.optim_wrapper["amp"] = True
    path = folder / f"epoch_{cfg.train_cfg.max_epochs}.pth"
    meta = {"iter": cfg.train_cfg.max_epochs, "config": plain_config(cfg)}
    save_checkpoint({"state_dict": {}, "meta": meta}, path)
    write_finished_marker(folder, path)


class Pretended:
    """Stands for `subprocess.Popen`: writes at once what the tool would, with made-up scores."""

    def __init__(self, command, *, stdout, **options):
        self.words, self.returncode = command[1:], 0
        COMMANDS.append(command)
        {"train": self.train, "test": self.test, "track": self.track}[Path(command[1]).stem]()

    def option(self, name: str) -> str | None:
        return self.words[self.words.index(name) + 1] if name in self.words else None

    def train(self) -> None:
        options = self.words[self.words.index("--cfg-options") + 1 : self.words.index("--device")]
        data_root = dict(text.split("=") for text in options)["data_root"]
        folder, seed = Path(self.option("--work-dir")), int(self.option("--seed"))
        write_training(folder, self.words[1], seed, amp="--amp" in self.words, data_root=data_root)

    def test(self) -> None:
        checkpoint, folder = Path(self.words[1]), Path(self.option("--work-dir"))
        folder.mkdir(exist_ok=True)
        name, seed = checkpoint.parent.name.rsplit("_seed", 1)
        nds = NDS.get(CONFIGS[name].stem, 0.3) + 0.01 * int(seed) - 0.2 * ("--blank-images" in self.words)
        if self.option("--eval") in (None, "nuscenes"):
            errors = dict.fromkeys(("trans_err", "scale_err", "orient_err", "vel_err", "attr_err"), 0.25)
            boxes = {"mean_ap": nds - 0.1, "nd_score": nds, "tp_errors": errors}
            boxes |= {"mean_dist_aps": {"car": nds}, "label_tp_errors": {"car": errors}}
            (folder / "metrics_summary.json").write_text(json.dumps(boxes))
            (folder / "results_nusc.json").write_text("{}")
        if self.option("--eval") in (None, "map"):
            iou = {"camera_map": 0.4, "lidar_map": 0.3, "fusion_map": 0.39}.get(name, 0.2)
            scores = {"map/mIoU": iou} | {f"map/{one}/IoU": iou for one in MAP_CLASSES}
            (folder / "scores.json").write_text(json.dumps({"scores": scores}))

    def track(self) -> None:
        folder = Path(self.option("--work-dir"))
        folder.mkdir(parents=True, exist_ok=True)
        amota = 0.5 if any("results_nusc.json" in word for word in self.words) else 1.0
        found = {"amota": amota, "amotp": 0.5, "ids": 3.0, "label_metrics": {"amota": {"car": amota}}}
        (folder / "tracking_summary.json").write_text(json.dumps(found))

    def poll(self) -> int:
        return self.returncode


COMMANDS: list[list[str]] = []


@pytest.fixture
def pretended(monkeypatch):
    run_in_process(monkeypatch)
    monkeypatch.setattr(jobs.subprocess, "Popen", Pretended)
    COMMANDS.clear()
    return COMMANDS


def named(commands: list[list[str]], tool: str) -> list[str]:
    """Folders of the runs of a tool, relative to the work dir."""
    found = [command for command in commands if command[1] == f"tools/{tool}.py"]
    return ["/".join(Path(c[c.index("--work-dir") + 1]).parts[-1 if tool == "train" else -2 :]) for c in found]


def test_the_family_is_trained_scored_and_tracked(tmp_path, pretended, capsys):
    root, work = write_tiny_root(tmp_path / "set", version="v1.0-sim"), tmp_path / "work"
    options = CompareOptions(seeds=(0, 1), amp=True, jobs=3, work_dir=work, overrides={"data_root": str(root)})
    options = replace(options, device="cpu")
    found = compare_detectors(options, simulate=pytest.fail)
    assert len(list((root / "pcperc").glob("*/*gt_database"))) == 1

    trained = named(pretended, "train")
    assert {f"{name}_seed{seed}" for name in CONFIGS for seed in (0, 1)} <= set(trained)
    assert len(trained) == len(set(trained))  # a stage that several need, too
    by_name = {name: command for name, command in zip(trained, pretended_trainings(pretended), strict=True)}
    for name, first in (
        ("fusion", "lidar_only_seed1/epoch_10.pth"),
        ("lidar_longer", "lidar_only_seed1/epoch_10.pth"),
        ("joint", "lidar_only_seed1/epoch_10.pth"),
        ("fusion_centerhead", "lidar_centerhead_seed1/epoch_4.pth"),
    ):
        command = by_name[f"{name}_seed1"]
        assert command[command.index("--load-from") + 1] == str(work / first)
        assert "--amp" in command and "--resume" in command and "--subnet" not in command
    assert sum("--load-from" in command for command in by_name.values()) == 8
    first = ["lidar_only_seed0", "lidar_only_seed1", "camera_only_seed0", "camera_only_seed1", "lidar_centerhead_seed0"]
    assert [name for name in trained if name in first] == first and "fusion_seed0" in trained[len(first) :]

    tests = [command for command in pretended if command[1] == "tools/test.py"]
    assert len(tests) == len(set(named(pretended, "test"))) == 2 * 12
    (joint,) = (command for command in tests if "joint_seed0" in command[2])
    assert "--eval" not in joint  # both in one pass
    (black,) = (command for command in tests if "--blank-images" in command and "seed0" in command[2])
    assert black[2].endswith("fusion_seed0/epoch_2.pth") and str(work / "fusion_seed0/epoch_2_blank_images") in black
    tracks = [command for command in pretended if command[1] == "tools/track.py"]
    assert len(tracks) == 2 * 3 * 2 + 2 and not any("--device" in command for command in tracks)
    assert sum("results_nusc.json" in str(command) for command in tracks) == 12
    for command in tracks:
        assert command[command.index("--data-root") + 1] == str(root) and "sim_val" in command

    check_found(found, capsys.readouterr().out)
    assert json.loads((work / detectors.RESULTS_NAME).read_text()) == json.loads(json.dumps(found, default=str))
    pretended.clear()
    assert compare_detectors(options, simulate=None)["tracking"] == found["tracking"] and not pretended
    with pytest.raises(
        ConfigError, match=r"epoch_\d+.pth: was trained otherwise, optim_wrapper.amp.*another --work-dir"
    ):
        compare_detectors(replace(options, amp=False), simulate=None)


def pretended_trainings(commands: list[list[str]]) -> list[list[str]]:
    return [command for command in commands if command[1] == "tools/train.py"]


def check_found(found: dict, printed: str) -> None:
    rows = {(row["network"], row["seed"], row["blank_images"]): row for row in found["rows"]}
    assert len(rows) == len(found["rows"]) == 2 * 12
    fusion, longer = rows["fusion", 0, False], rows["lidar_longer", 0, False]
    assert fusion["iterations"] == longer["iterations"] == 2
    assert fusion["first_stages"]["lidar_only"] == longer["first_stages"]["lidar_only"] == 10
    assert fusion["parameters"] == pytest.approx(39.80e6, abs=5e3) and fusion["scores"]["car/AP"] == 0.6
    assert {"NDS", "map/mIoU", "map/divider/IoU"} <= set(rows["joint", 1, False]["scores"])
    assert [(row["boxes"], row["seed"], row["tracker"]) for row in found["tracking"][-2:]] == [
        ("truth", None, "greedy"),
        ("truth", None, "kalman"),
    ]
    assert [(one["claim"], one["met"]) for one in found["verdicts"]] == [
        ("NDS of camera + LiDAR", True),
        ("NDS of camera + LiDAR above LiDAR trained as long", True),
        ("NDS of camera + LiDAR above the same with black images", True),
        ("mIoU of maps from camera + LiDAR above cameras and LiDAR", False),
        ("AMOTA of greedy on the true boxes", True),
        ("AMOTA of kalman on the true boxes", True),
    ]
    assert found["verdicts"][3]["values"] == pytest.approx([-0.01, -0.01])
    assert "simulated, REACHED: NDS of camera + LiDAR: 0.6050 +- 0.0071, asked for >= 0.55" in printed
    assert (
        "simulated, NOT REACHED: mIoU of maps from camera + LiDAR above cameras and LiDAR: -0.0100 +- 0.0000 "
        "(camera + LiDAR 0.3900 +- 0.0000; cameras 0.4000 +- 0.0000; LiDAR 0.3000 +- 0.0000), asked for > 0" in printed
    )
    assert printed.count("(simulated)") == 3 and "camera + LiDAR, images black" in printed
    assert found["environment"]["commit"] and found["environment"]["devices"] == ["cpu"]


def test_parts_are_trained_with_the_stages_that_they_need(tmp_path):
    options = CompareOptions(work_dir=tmp_path, seeds=(4,), parts=("tracking",))
    (fusion,) = (one for one in detectors._networks(options).values() if one.name == "fusion")
    (training,) = fusion.trainings.values()
    lidar = next(stage for stage in fusion.stages if stage.name == "lidar_only")
    assert [job.name for job in training.jobs()] == ["fusion_seed4", "fusion_seed4_scores"]  # without black images
    assert "lidar_only_seed4" in training.needs and not lidar.trainings[4].tests
    networks = {part: detectors._networks(replace(options, parts=(part,))) for part in ("detection", "maps")}
    assert {part: [name for name in found if name in CONFIGS] for part, found in networks.items()} == {
        "detection": ["lidar_only", "fusion", "lidar_longer"],
        "maps": ["fusion_map", "camera_map", "lidar_map"],
    }


def test_single_networks_are_trained_with_the_stages_that_they_need(tmp_path):
    options = CompareOptions(("variants", "tracking"), (4,), work_dir=tmp_path, networks=("camera_only", "joint"))
    networks = detectors._networks(options)
    assert [name for name in networks if name in CONFIGS] == ["lidar_only", "camera_only", "joint"]
    assert not networks["lidar_only"].trainings[4].tests and networks["joint"].trainings[4].tests == (BOTH,)
    boxes = [run.boxes for run in tracked_boxes(options, [("joint", None)], {})]
    assert boxes == []  # is none of those that are tracked
    with pytest.raises(ConfigError, match="--networks must be of .*camera_only.* in these --parts, got 'camera_map'"):
        check_options(replace(options, networks=["joint", "camera_map"]))


def test_what_is_finished_is_written_at_once(tmp_path, pretended, monkeypatch):
    """A machine that is taken away asks nobody: after each run the file has all that there is."""
    root, work = write_tiny_root(tmp_path / "set", version="v1.0-sim"), tmp_path / "work"
    overrides = {"data_root": str(root)}
    options = CompareOptions(("maps", "tracking"), (0,), work_dir=work, overrides=overrides, device="cpu")
    counts = []

    def is_written(self, job):
        path = work / detectors.RESULTS_NAME
        found = json.loads(path.read_text()) if path.exists() else {"rows": [], "tracking": []}
        counts.append((len(found["rows"]), len(found["tracking"])))
        start(self, job)

    start = jobs.JobQueue._start
    monkeypatch.setattr(jobs.JobQueue, "_start", is_written)
    found = compare_detectors(options, simulate=pytest.fail)
    assert counts == sorted(counts) and len(set(counts)) > 8
    assert (len(found["rows"]), len(found["tracking"])) == (6, 8)
    # A test that was killed while the devkit wrote its file is made again.
    summary = next(work.glob("fusion_seed0/*/metrics_summary.json"))
    summary.write_text(summary.read_text()[:20])
    pretended.clear()
    assert len(compare_detectors(options, simulate=None)["rows"]) == 6
    assert [command[1] for command in pretended][:1] == ["tools/test.py"]


def test_several_first_stages_are_all_handed_over(tmp_path, monkeypatch):
    """One of them is in the comparison, the other has no name there."""
    cfg = load_config(CONFIGS["fusion"])
    cfg["first_stage"] = {"lidar": "lidar_only_simulated.py", "camera": "camera_map_simulated.py"}
    read = load_config
    monkeypatch.setattr(
        detectors, "load_config", lambda path, *rest: cfg if path == CONFIGS["fusion"] else read(path, *rest)
    )
    configs = {name: CONFIGS[name] for name in ("fusion", "lidar_only")}
    networks = detectors._networks(CompareOptions(("detection",), (0, 1), work_dir=tmp_path, configs=configs))
    assert list(networks) == ["camera_map_simulated", "fusion", "lidar_only"]
    training = networks["fusion"].trainings[1]
    assert training.needs == ("lidar_only_seed1", "camera_map_simulated_seed1")
    for name in ("lidar_only", "camera_map_simulated"):
        write_training(tmp_path / f"{name}_seed1", networks[name].trainings[1].config, 1)
    words = list(map(str, training.jobs()[0].command()))
    at = [index for index, word in enumerate(words) if word == "--load-from"]
    assert [words[index + 1] for index in at] == [
        str(tmp_path / "lidar_only_seed1/epoch_10.pth"),
        str(tmp_path / "camera_map_simulated_seed1/epoch_36.pth"),
    ]
    assert not networks["camera_map_simulated"].trainings[1].tests and networks["lidar_only"].trainings[1].tests
