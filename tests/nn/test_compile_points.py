# SPDX-License-Identifier: Apache-2.0
"""Networks of points go through torch.compile whole, with numbers of points and centres as symbols."""

import pytest
import torch

from pcperc.models import pvcnn
from pcperc.nn import fuse
from pcperc.sparse import PointTensor
from tests.models.pvcnn_clouds import cloud_of


def test_pvcnn2_compiles_whole():
    downs, ups = [pvcnn.Down([(8, 1, 4)], (8,), 6, 0.5, 4)], [pvcnn.Up((8,))]
    model = pvcnn.PVCNN2(6, 3, downs=downs, ups=ups, classifier=()).eval()

    def run(coords, feats):
        return model(PointTensor(coords, feats, batch_size=2)).feats

    compiled = torch.compile(run, fullgraph=True, dynamic=True, backend="aot_eager")
    for sizes in ((20, 9), (3, 4)):
        points = cloud_of(*sizes, channels=6, dtype=torch.float32)
        with torch.no_grad():
            torch.testing.assert_close(compiled(points.coords, points.feats), run(points.coords, points.feats))


@pytest.mark.parametrize("change", [lambda model: model, fuse], ids=["plain", "fused"])
def test_pvcnn_compiles_whole(change):
    model = change(pvcnn.PVCNN(6, 3, blocks=[(8, 1, 4), (16, 1, None)], classifier=(8,), with_se=True).eval())

    def run(coords, feats):
        return model(PointTensor(coords, feats, batch_size=2)).feats

    compiled = torch.compile(run, fullgraph=True, dynamic=True, backend="aot_eager")
    for sizes in ((20, 9), (3, 4)):
        points = cloud_of(*sizes, channels=6, dtype=torch.float32)
        with torch.no_grad():
            torch.testing.assert_close(compiled(points.coords, points.feats), run(points.coords, points.feats))
