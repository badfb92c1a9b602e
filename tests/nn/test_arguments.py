# SPDX-License-Identifier: Apache-2.0
"""Arguments that a layer does not have, as people who come from other libraries give them."""

import copy
import inspect
import pickle
import re

import pytest

import pcperc.nn as spnn

# Written as for spconv 2 (indice_key, algo, positional stride and padding), torchsparse (transposed) or misspelt.
FOREIGN = {
    "SubMConv3d-indice_key": (spnn.SubMConv3d, (16, 32, 3), {"indice_key": "a"}, "argument 'indice_key'"),
    "SubMConv3d-padding": (spnn.SubMConv3d, (16, 32, 3), {"padding": 1, "bias": False}, "argument 'padding'"),
    "SubMConv3d-positional": (spnn.SubMConv3d, (16, 32, 3, 1, 1), {}, "too many positional arguments"),
    "SparseConv2d-algo": (spnn.SparseConv2d, (16, 32, 3), {"algo": None}, "argument 'algo'"),
    "SparseConv3d-transposed": (spnn.SparseConv3d, (16, 32, 2, 2), {"transposed": True}, "argument 'transposed'"),
    "SparseConvTranspose3d": (spnn.SparseConvTranspose3d, (16, 32, 3), {"indice_key": "a"}, "argument 'indice_key'"),
    "SparseInverseConv3d": (spnn.SparseInverseConv3d, (16, 32, 3, "a"), {}, "too many positional arguments"),
    "SparseMaxPool3d": (spnn.SparseMaxPool3d, (2,), {"indice_key": "a"}, "argument 'indice_key'"),
    "SparseUnpool1d": (spnn.SparseUnpool1d, (2,), {"stride": 2}, "argument 'stride'"),
    "misspelt": (spnn.SubMConv3d, (16, 32), {"kernal_size": 3}, "argument 'kernal_size'"),
    "twice": (spnn.SparseConv3d, (16, 32, 3), {"kernel_size": 3}, "multiple values for argument 'kernel_size'"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_an_argument_that_a_layer_does_not_have_is_named_beside_those_it_has(name):
    layer, args, kwargs, said = FOREIGN[name]
    with pytest.raises(TypeError) as caught:
        layer(*args, **kwargs)
    message = str(caught.value)
    assert message.startswith(f"{layer.__name__}: ") and said in message
    assert message.endswith("). docs/migrate.md says what other libraries' arguments become")  # and nothing of maps
    assert "(in_channels, out_channels, kernel_size" in message or "(kernel_size" in message


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        ((6, 32, 3), {}, "too many positional arguments"),
        ((6, 32, 3, 16), {"with_se": True}, "too many positional arguments"),
        ((6, 32), {"kernel_size": 3, "resolution": 16}, "got an unexpected keyword argument 'kernel_size'"),
        ((6, 32), {"resolution": 16, "eps": 1e-15}, "got an unexpected keyword argument 'eps'"),
        ((6, 32), {}, "missing a required argument: 'resolution'"),
    ],
    ids=["three", "published", "kernel_size", "eps", "missing"],
)
def test_the_published_arguments_of_a_point_voxel_convolution(args, kwargs, said):
    """PVConv(in, out, kernel_size, resolution): 3 was taken for the resolution."""
    with pytest.raises(TypeError) as caught:
        spnn.PVConv(*args, **kwargs)
    message = str(caught.value)
    assert message.startswith(f"PVConv: {said}; its arguments are (in_channels, out_channels, *, resolution, with_se=")
    assert message.endswith("). The published kernel_size is left out: it is 3 (docs/migrate.md)")


def test_a_missing_argument_is_named():
    with pytest.raises(TypeError, match=r"^SubMConv3d: missing .* 'kernel_size'; its arguments are \(in_channels, "):
        spnn.SubMConv3d(16, 32)
    with pytest.raises(
        TypeError, match=r"^SparseMaxPool2d: missing .* 'kernel_size'; its arguments are \(kernel_size, "
    ):
        spnn.SparseMaxPool2d(stride=2)


@pytest.mark.parametrize(
    ("layer", "needed"),
    [
        (spnn.SubMConv3d, "in_channels"),
        (spnn.SparseInverseConv2d, "in_channels"),
        (spnn.SparseMaxPool3d, "kernel_size"),
        (spnn.SparseMaxUnpool1d, "kernel_size"),
        (spnn.PVConv, "in_channels"),
        (spnn.BatchNorm, "num_features"),
        (spnn.SyncBatchNorm, "num_features"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_layer_that_is_given_nothing_says_what_it_needs(layer, needed):
    """Python names the class that defines __init__, which nobody wrote."""
    with pytest.raises(TypeError) as caught:
        layer()
    wanted = f"{layer.__name__}: missing a required argument: '{needed}'; its arguments are ({needed}"
    assert str(caught.value).startswith(wanted)


def test_every_layer_that_is_given_nothing_names_itself():
    layers = [getattr(spnn, name) for name in spnn.__all__ if inspect.isclass(getattr(spnn, name))]
    for layer in layers:
        try:
            layer()
        except TypeError as error:
            assert re.match(rf"{layer.__name__}(: |\.__init__\(\) )missing ", str(error)), layer


def test_layers_are_pickled_as_before():
    norm = pickle.loads(pickle.dumps(spnn.BatchNorm(3)))
    assert norm.num_features == 3 and copy.copy(spnn.SparseMaxPool3d(2)).kernel_size == (2, 2, 2)


def test_signatures_and_copies_stay_as_they_are():
    assert list(inspect.signature(spnn.SubMConv3d).parameters)[:4] == [
        "in_channels",
        "out_channels",
        "kernel_size",
        "dilation",
    ]
    assert list(inspect.signature(spnn.SparseAvgPool2d).parameters) == ["kernel_size", "stride", "padding", "dilation"]
    conv = spnn.SubMConv3d(4, 8, 3)
    assert not hasattr(conv, "__signature__")  # a layer is called with a tensor, not with these
    assert copy.deepcopy(conv).weight.equal(conv.weight)


def test_repr_shows_what_a_layer_takes():
    assert repr(spnn.SubMConv3d(4, 8, 3)) == "SubMConv3d(4, 8, kernel_size=(3, 3, 3))"
    assert repr(spnn.SubMConv1d(4, 8, 5, dilation=2)) == "SubMConv1d(4, 8, kernel_size=(5,), dilation=(2,))"
    shown = repr(spnn.SparseGenerativeConvTranspose2d(4, 8, 3, 2))
    assert shown == "SparseGenerativeConvTranspose2d(4, 8, kernel_size=(3, 3), stride=(2, 2))"
    shown = repr(spnn.SparseConvTranspose1d(4, 8, 3, 2, 1, 1))
    assert shown == "SparseConvTranspose1d(4, 8, kernel_size=(3,), stride=(2,), padding=(1,), output_padding=(1,))"
    assert "padding=(1, 1, 1)" in repr(spnn.SparseConv3d(4, 8, 3, padding=1))


class Named(spnn.SubMConv3d):
    """A layer of a user's own, with an argument more."""

    def __init__(self, channels, *, label):
        super().__init__(channels, channels, 3)
        self.label = label


def test_a_layer_of_a_users_own_has_the_arguments_that_it_says():
    assert Named(4, label="a").label == "a"
    with pytest.raises(TypeError, match=r"Named: .*'dilation'; its arguments are \(channels, \*, label\)"):
        Named(4, label="a", dilation=2)


class Strided(spnn.SparseConv3d):
    """A layer of a user's own that gives its base an argument too many."""

    def __init__(self, channels):
        super().__init__(channels, channels, 3, indice_key="a")


def test_a_call_to_the_base_of_a_users_own_layer_is_told_too():
    with pytest.raises(
        TypeError, match=r"^Strided: got an unexpected .* 'indice_key'; .* \(in_channels, out_channels, k"
    ):
        Strided(4)
    with pytest.raises(TypeError, match=r"^Strided: missing .* 'channels'; its arguments are \(channels\)\. docs"):
        Strided()
