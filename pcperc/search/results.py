# SPDX-License-Identifier: Apache-2.0
"""What a search leaves: the front as a table and a picture, each of its subnets as a description and as weights."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table
from torch import nn

from pcperc.engine.checkpoint import save_weights, written_whole
from pcperc.engine.config import plain_config
from pcperc.engine.loading import LoadedCheckpoint
from pcperc.files import write_text
from pcperc.models.spvnas import Subnet
from pcperc.search.evolution import pareto_ranks
from pcperc.search.state import COSTS, Member

UNITS = {"gmacs": "GMACs", "mparams": "million parameters", "latency_ms": "milliseconds a scan"}
COLUMNS = {**dict.fromkeys(COSTS, ".3f"), "miou": ".4f", "generation": "d"}


def front_of(members: Sequence[Member], cost: str) -> list[Member]:
    """Return those that no other one beats in cost and mIoU, the cheapest first; of equal ones the first."""
    ranks = pareto_ranks([getattr(m, cost) for m in members], [m.miou for m in members])
    best: dict[tuple, Member] = {}
    for member, rank in zip(members, ranks, strict=True):
        if rank == 0:
            best.setdefault((getattr(member, cost), member.miou), member)
    return [best[key] for key in sorted(best)]


def write_members(folder: Path, name: str, members: Sequence[Member], *, title: str, settings: dict) -> None:
    """Write ``<name>.csv`` and then ``<name>.json``, with what they follow from, into ``folder``; print the table."""
    rows = [{"name": name_of(number), **asdict(member)} for number, member in enumerate(members)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", *COLUMNS])
    writer.writerows([row["name"], *(row[column] for column in COLUMNS)] for row in rows)
    write_text(folder / f"{name}.csv", text.getvalue())
    found = {"title": title, "settings": settings, name: rows}
    write_text(folder / f"{name}.json", json.dumps(found, indent=1) + "\n")
    table = Table("subnet", title=title, title_justify="left")
    for column in COLUMNS:
        table.add_column(column, justify="right")
    for row in rows:
        numbers = ("-" if row[column] is None else format(row[column], form) for column, form in COLUMNS.items())
        table.add_row(row["name"], *numbers)
    Console(highlight=False).print(table)


def draw_front(path: Path, members: Sequence[Member], front: Sequence[Member], cost: str, *, title: str) -> None:
    """Draw every member and the front, mIoU over cost; needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlabel=UNITS[cost], ylabel="mIoU", title=title)
    axes.scatter([getattr(m, cost) for m in members], [m.miou for m in members], s=10, color="0.7", label="scored")
    costs, scores = [getattr(m, cost) for m in front], [m.miou for m in front]
    axes.step(costs, scores, where="post", marker="o", markersize=4, color="tab:blue", label="front")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    with written_whole(path) as partial:
        figure.savefig(partial, format="png", dpi=120)


def write_subnet(folder: Path, name: str, subnet: Subnet, net: nn.Module, supernet: LoadedCheckpoint) -> None:
    """Write ``<name>.json``, and ``<name>.safetensors``, which tools/test.py takes and tools/train.py starts from."""
    write_text(folder / f"{name}.json", subnet.to_json() + "\n")
    weights = {f"backbone.{key}": value for key, value in net.state_dict().items()}
    config = plain_config(supernet.cfg)
    config["model"] = plain_config(subnet_model(supernet.cfg["model"], subnet))
    save_weights(weights, folder / f"{name}.safetensors", meta={**supernet.meta, "config": config})


def subnet_model(model: dict, subnet: Subnet) -> dict:
    """Return the config of a Segmentor with the subnet, given that of the super network."""
    backbone = {key: value for key, value in model["backbone"].items() if key not in ("type", "space")}
    kept = {key: value for key, value in model.items() if key not in ("type", "num_random")}
    return {**kept, "type": "Segmentor", "backbone": {**backbone, "type": "SPVCNN", **subnet.options}}


def name_of(number: int) -> str:
    """Return the name of a subnet of the front."""
    return f"subnet_{number:02d}"
