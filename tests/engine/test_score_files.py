# SPDX-License-Identifier: Apache-2.0
"""Files of scores say what was scored, and of another checkpoint they replace none."""

import json
import re
import shutil

from pcperc.engine.checkpoint import set_aside_earlier_run
from pcperc.engine.score_files import scores_say
from pcperc.engine.testing import TestOptions, test
from pcperc.files import write_text


def test_scores_of_another_checkpoint_replace_none_of_the_work_dirs_own(parts, tmp_path, monkeypatch):
    root, config, checkpoint = parts
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "work_dirs/tiny"
    shutil.copytree(checkpoint.parent, own)
    mine = tmp_path / "mine" / "other.safetensors"
    mine.parent.mkdir()
    shutil.copy(checkpoint.with_suffix(".safetensors"), mine)
    scored = {}
    for given in (None, own / checkpoint.name, mine):
        test(TestOptions(config, given, evaluation="shapenet", device="cpu"))
        scored = {
            str(path.parent.relative_to(own)): json.loads(path.read_text())["scored"]["checkpoint"]
            for path in own.rglob("scores.json")
        }
    assert scored == {".": f"work_dirs/tiny/{checkpoint.name}", "mine_other": "mine/other.safetensors"}
    set_aside_earlier_run(own)  # as a training does that is not finished yet
    test(TestOptions(config, evaluation="shapenet", device="cpu"))
    now = json.loads((own / "scores.json").read_text())["scored"]["checkpoint"]
    assert re.fullmatch(rf"work_dirs/tiny/earlier_\w+/{checkpoint.name}", now)


def test_old_scores_are_not_said_to_be_of_a_test_that_wrote_none(tmp_path):
    (tmp_path / "scores.json").write_text('{"scores": {}}')
    with scores_say(tmp_path, {"checkpoint": "a.pth"}):
        write_text(tmp_path / "cluster_scores.json", '{"scores": {"PQ": NaN}}')
    assert json.loads((tmp_path / "scores.json").read_text()) == {"scores": {}}
    found = json.loads((tmp_path / "cluster_scores.json").read_text())
    assert found["scored"] == {"checkpoint": "a.pth"} and "PQ" in found["scores"]
