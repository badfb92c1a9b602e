# SPDX-License-Identifier: Apache-2.0
"""Tables and verdicts of tools/compare_segmenters.py."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.table import Table

from pcperc.benchmark.comparison import mean_and_deviation, plain_table

NETWORKS = {  # rows of the table, and how they were made
    "minkunet": "MinkUNet",
    "spvcnn": "SPVCNN",
    "scaled": "MinkUNet scaled in width",
    "finetuned": "SPVNAS searched, fine-tuned",
    "searched": "SPVNAS searched, from the super network",
    "random": "SPVNAS random, from the super network, median",
}
# On SemanticKITTI's val: GMACs, million parameters, mIoU of the published subnets, by the limit that names them.
PUBLISHED = {20: (20.0, 3.3, 61.5), 25: (24.6, 4.5, 62.9), 35: (34.7, 7.0, 63.5), 65: (64.5, 10.8, 64.7)}
PUBLISHED_MINKUNET = 113.9  # GMACs at full width
MARGIN = 1.0  # points of mIoU
HOW = (
    "Same scans for all, and the same iterations: those that the scored weights have seen, for the fine-tuned subnet\n"
    "those of the super network (each step of which runs four subnets) and its own. GMACs: mean over the scored\n"
    "scans, from exact kernel maps. From the super network: weights as they are, batch norms measured anew on 8\n"
    "training scans, for the searched subnet and the random ones alike. The search chose on other scans than these."
)


def verdicts(rows: Sequence[dict[str, Any]], *, share: float) -> list[dict[str, Any]]:
    """Return claim, values and whether it is met, of all claims of which a seed has both networks.

    Differences are those of one seed, in points of mIoU; the claim is met where their mean is.

    Args:
        rows: ``network``, ``seed``, ``miou`` and ``gmacs``.
        share: of MinkUNet's multiply-adds that the searched network may have.
    """
    by_seed: dict[str, dict[int, dict]] = {}
    for row in rows:
        by_seed.setdefault(row["network"], {})[row["seed"]] = row

    def pairs(one: str, other: str) -> list[tuple[dict, dict]]:
        mine, theirs = by_seed.get(one, {}), by_seed.get(other, {})
        return [(mine[seed], theirs[seed]) for seed in mine if seed in theirs]

    found = []
    shares = [a["gmacs"] / b["gmacs"] for a, b in pairs("searched", "minkunet")]
    if shares:
        claim = {"claim": "multiply-adds of the searched net over MinkUNet's", "values": shares}
        found.append(claim | {"asked_for": f"<= {share:g}", "reached": max(shares), "met": max(shares) <= share})
    for one, other, claim, margin in (
        ("finetuned", "minkunet", "the searched net, fine-tuned, has MinkUNet's mIoU", 0.0),
        ("finetuned", "scaled", "the searched net, fine-tuned, beats MinkUNet scaled to as many MACs", MARGIN),
        ("searched", "random", "the searched net beats the median random subnet, both from the super network", MARGIN),
        ("finetuned", "random", "the searched net, fine-tuned, beats that median (not on equal terms)", MARGIN),
    ):
        differences = [100 * (a["miou"] - b["miou"]) for a, b in pairs(one, other)]
        if differences:
            mean = float(np.mean(differences))
            asked = f"> {margin:g} points" if margin else ">= 0 points"
            met = mean > margin if margin else mean >= 0
            found.append({"claim": claim, "values": differences, "asked_for": asked, "reached": mean, "met": met})
    return found


def format_comparison(found: dict[str, Any]) -> str:
    """Return the networks, the subnets at given limits and a line for each claim, as plain text."""
    seeds = found["options"]["seeds"]
    parts = [_networks_table(found, len(seeds)), HOW, ""]
    for verdict in found["verdicts"]:
        reached = verdict["reached"]
        if "points" in verdict["asked_for"]:
            text = f"{mean_and_deviation(verdict['values'], '+.2f').replace('+- +', '+- ')} points"
        else:
            text = f"{reached:.4f} at the most"
        word = "REACHED" if verdict["met"] else "NOT REACHED"
        done = len(verdict["values"])
        so_far = "" if done == len(seeds) else f" (so far {done} of {len(seeds)} seeds)"
        parts.append(f"simulated, {word}{so_far}: {verdict['claim']}: {text}, asked for {verdict['asked_for']}")
    if found["at_limits"]:
        parts += ["", _limits_table(found)]
    return "\n".join(parts)


def _networks_table(found: dict[str, Any], num_seeds: int) -> str:
    where = f"{found['scans']} scans of {found['split']}"
    title = f"Simulated SemanticKITTI, {where}, mean +- deviation of {num_seeds} seeds"
    table = Table(title=title, title_justify="left")
    for name in ("network (simulated)", "seeds", "iterations", "GMACs", "parameters, M", "mIoU"):
        table.add_column(name, justify="left" if name.startswith("network") else "right")
    for network, words in NETWORKS.items():
        rows = [row for row in found["rows"] if row["network"] == network]
        width = next((f", {row['width']:g}" for row in rows if row.get("width") is not None), "")
        iterations = "/".join(str(value) for value in sorted({row["iterations"] for row in rows}))
        costs = [mean_and_deviation([row[key] for row in rows], ".2f") for key in ("gmacs", "mparams")]
        scores = mean_and_deviation([100 * row["miou"] for row in rows])
        table.add_row(words + width, str(len(rows)), iterations or "-", *costs, scores)
    return plain_table(table)


def _limits_table(found: dict[str, Any]) -> str:
    seed = found["options"]["seeds"][0]
    title = (
        f"Simulated: subnets of the super network of seed {seed} at limits of GMACs, beside the published (real scans)"
    )
    table = Table(title=title, title_justify="left")
    for name in ("limit", "GMACs", "parameters, M", "mIoU (simulated)", "published GMACs", "parameters, M", "mIoU"):
        table.add_column(name, justify="right")
    for row in found["at_limits"]:
        published = PUBLISHED.get(row["limit"])
        theirs = ["-"] * 3 if published is None else [f"{value:g}" for value in published]
        score = "-" if row["miou"] is None else f"{100 * row['miou']:.1f}"
        table.add_row(f"{row['limit']:g}", f"{row['gmacs']:.2f}", f"{row['mparams']:.2f}", score, *theirs)
    own = [row["gmacs"] for row in found["rows"] if row["network"] == "minkunet"]
    note = f"MinkUNet at full width has {PUBLISHED_MINKUNET} GMACs there" + (f", {own[0]:.1f} here" if own else "")
    return f"{plain_table(table)}{note}"
