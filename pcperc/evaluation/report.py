# SPDX-License-Identifier: Apache-2.0
"""Tables of scores as plain text, and the file that keeps them."""

from __future__ import annotations

import io
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pcperc.files import write_text

REPORT_NAME = "scores.json"


def table_text(table: Table) -> str:
    """Return a table as it is printed, 100 columns wide."""
    text = io.StringIO()
    Console(file=text, width=100).print(table)
    return text.getvalue()


def write_report(folder: str | Path, *, title: str, scores: dict[str, float], table: str, **more) -> None:
    """Write scores.json: title, scores, table as text, and what else is given."""
    report = {"title": title, "scores": scores, "table": table, **more}
    write_text(Path(folder) / REPORT_NAME, json.dumps(report, indent=1))
