# SPDX-License-Identifier: Apache-2.0
"""Class weights from counts, and the counts themselves."""

import numpy as np
import pytest

from pcperc.datasets import SemanticKITTI, class_weights, count_labels
from tests import semantickitti_root as tiny


def test_counts_are_those_of_the_samples(tmp_path):
    data = SemanticKITTI(root=tiny.write_root(tmp_path), split="sim_train")
    labels = np.concatenate([data[i]["point_labels"] for i in range(4)]).tolist()
    assert count_labels(data).tolist() == [labels.count(c) for c in range(19)]
    folder = tmp_path / "sequences" / "00" / "labels"
    folder.rename(folder.with_name("hidden"))
    with pytest.raises(ValueError, match="samples must have labels, sample 0 of sim_train has none"):
        count_labels(data)


@pytest.mark.parametrize("exponent", [0, 0.5, 1])
def test_weights_by_hand(exponent):
    weights = class_weights(np.array([900, 100, 0]), exponent=exponent)
    assert weights[1] / weights[0] == pytest.approx(9**exponent)
    assert weights[2] / weights[0] == pytest.approx(900**exponent)
    assert 0.9 * weights[0] + 0.1 * weights[1] == pytest.approx(1)


def test_refusals():
    for counts, exponent in ((np.zeros(3), 0.5), (np.array([1, -1]), 0.5), (np.array([1, 1]), 2)):
        with pytest.raises(ValueError, match="class_weights: counts must be >= 0"):
            class_weights(counts, exponent=exponent)
