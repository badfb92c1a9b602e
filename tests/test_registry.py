# SPDX-License-Identifier: Apache-2.0
"""Building from configs: nested parts, and one clear error for each kind of mistake."""

import pytest

from pcperc.registry import MODELS, TRANSFORMS


class Part:
    def __init__(self, size, parts=(), options=None):
        if size < 0:
            raise TypeError("Part: size must not be negative")
        self.size, self.parts, self.options = size, parts, options


@pytest.fixture(autouse=True)
def registered():
    MODELS.register_module(name="Part", module=Part, force=True)
    yield
    MODELS.module_dict.pop("Part")


def test_nested_parts_are_built_before_the_whole():
    whole = MODELS.build(
        dict(type=Part, size=1, parts=[dict(type="Part", size=2)], options=dict(a=dict(type=Part, size=3)))
    )
    assert [whole.size, whole.parts[0].size, whole.options["a"].size] == [1, 2, 3]


def test_a_name_of_another_registry_is_found():
    assert TRANSFORMS.build(dict(type="Part", size=1)).size == 1


@pytest.mark.parametrize(
    ("cfg", "error", "message"),
    [
        (dict(type="Prat", size=1), KeyError, "type 'Prat' is not registered; nearest known: Part"),
        (dict(size=1), KeyError, "config needs the key 'type', got the keys \\['size'\\]"),
        (dict(type=Part, sise=1), TypeError, "Part: unknown key 'sise'; did you mean 'size'\\?"),
        (dict(type=Part), TypeError, "Part: key 'size' is required but missing"),
        ([], TypeError, "config must be a dict"),
        (dict(type=Part, size="big"), TypeError, "^Part: a value in its config is of the wrong type: '<' not supp"),
        (dict(type=Part, size=1, parts=[dict(type=Part, size="big")]), TypeError, "^Part: a value in its config is"),
        (dict(type=Part, size=-1), TypeError, "^Part: size must not be negative$"),
        (dict(type=3), TypeError, "'type' must be a class or a registered name, got 3"),
    ],
)
def test_mistakes_are_named(cfg, error, message):
    with pytest.raises(error, match=message):
        MODELS.build(cfg)


def test_a_dotted_name_is_never_imported():
    with pytest.raises(KeyError, match="not registered"):
        MODELS.build(dict(type="os.system", command="true"))
