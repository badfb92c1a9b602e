# SPDX-License-Identifier: Apache-2.0
"""Every error that the library raises begins with the operator, class or function that was called."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("ops", "sparse", "nn", "convert")
CALLED = re.compile(r"(\{\w[^{}]*\}|[A-Za-z_][\w.]*)( [-+*/])?: ")  # such as "{op}: ", "SparseTensor +: "


UNNAMED = {"ops/_library.py", "sparse/storage.py"}  # at import nothing was called yet; load adds its name


def message(call):
    """The text that an exception is made of, with {value} for what is put in."""
    text = call.args[0]
    parts = text.values if isinstance(text, ast.JoinedStr) else [text]
    return "".join(part.value if isinstance(part, ast.Constant) else "{value}" for part in parts)


@pytest.mark.parametrize("room", ROOMS)
def test_messages_name_what_was_called(room):
    files = {f"{room}/{path.name}": path for path in (ROOT / "pcperc" / room).glob("*.py")}
    raised = {
        f"{name}:{node.lineno}": message(node.exc)
        for name, path in files.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and name not in UNNAMED
    }
    assert raised
    assert not {place: text for place, text in raised.items() if not CALLED.match(text)}
