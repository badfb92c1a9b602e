# SPDX-License-Identifier: Apache-2.0
"""The import rule of docs/architecture.md, read from the source with ``ast``."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LOW = {"registry", "geometry", "files", "tables", "foreign_names", "simulated"}
ALLOWED = {
    "registry": set(),
    "geometry": set(),
    "files": set(),
    "foreign_names": set(),
    "simulated": set(),
    "tables": {"files"},
    "ops": {"geometry"},
    "sparse": {"ops"} | LOW,
    "nn": {"sparse", "ops"} | LOW,
    "convert": {"models", "nn", "sparse", "ops"} | LOW,
    "models": {"nn", "sparse", "ops"} | LOW,
    "tracking": {"ops"} | LOW,
    "transforms": {"ops"} | LOW,
    "datasets": {"ops", "transforms"} | LOW,
    "evaluation": {"ops", "datasets", "tracking"} | LOW,
    "visualization": {"ops", "datasets", "evaluation"} | LOW,
    "engine": {"models", "datasets", "transforms", "tracking", "evaluation", "visualization", "convert", "nn", "sparse"}
    | {"ops"}
    | LOW,
    "benchmark": {"engine", "models", "datasets", "evaluation", "tracking", "nn", "sparse", "ops"} | LOW,
    "search": {"benchmark", "engine", "models", "datasets", "evaluation", "nn", "sparse", "ops"} | LOW,
    "simulation": {"ops"} | LOW,
}


def imported_rooms(path: Path) -> set[str]:
    """Return the second word of every ``pcperc.<room>`` that the file imports, at any depth."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            names = [node.module] + [f"{node.module}.{alias.name}" for alias in node.names]
        rooms |= {name.split(".")[1] for name in names if name.startswith("pcperc.")}
    return rooms & set(ALLOWED)


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_room_imports_only_what_stands_below_it(room):
    module = ROOT / "pcperc" / f"{room}.py"
    files = [module] if module.is_file() else sorted((ROOT / "pcperc" / room).rglob("*.py"))
    assert files, f"pcperc/{room} has no Python file"
    for path in files:
        forbidden = imported_rooms(path) - ALLOWED[room] - {room}
        assert not forbidden, f"{path.relative_to(ROOT)} imports {sorted(forbidden)}"


def test_every_package_has_a_rule():
    rooms = {p.parent.name for p in (ROOT / "pcperc").glob("*/__init__.py")}
    assert rooms <= set(ALLOWED)
