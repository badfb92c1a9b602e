# SPDX-License-Identifier: Apache-2.0
"""Subnets drawn at a limit: what a search has to beat."""

from pathlib import Path

import numpy as np

from pcperc.engine.config import ConfigError
from pcperc.engine.messages import say
from pcperc.engine.progress import ProgressDisplay
from pcperc.models.spvnas import Subnet
from pcperc.search.evolution import sample_sized
from pcperc.search.limited import LimitedSubnets
from pcperc.search.results import write_members
from pcperc.search.state import Member

NEAR = 0.9  # of the first limit: what costs less is not drawn at it
MAX_DRAWS = 1000  # for one subnet; at a fifth of MinkUNet's multiply-adds one in 40 to 150 is near


def score_random_subnets(subnets: LimitedSubnets, folder: Path, *, count: int, seed: int) -> list[Member]:
    """Score subnets that keep all limits and have 0.9 of the first or more; write random.json and random.csv.

    They are scored as the search scores its own: weights of the super network, batch norms measured anew.

    Raises:
        ConfigError: there are not as many.
    """
    drawn = draw_near_limit(subnets, np.random.default_rng(seed), count=count)
    members = []
    with ProgressDisplay("scoring", count) as display:
        for subnet in drawn:
            members.append(subnets.scored(subnet, 0))
            display.advance(f"mIoU {members[-1].miou:.3f}")
    title = f"{subnets.simulated}{count} random subnets scored on {subnets.split}, {subnets.limits_text}"
    write_members(folder, "random", members, title=title, settings={"random": count, "seed": seed, **subnets.settings})
    say(f"random subnets: {folder / 'random.json'}")
    return members


def draw_near_limit(subnets: LimitedSubnets, rng: np.random.Generator, *, count: int) -> list[Subnet]:
    """Return ``count`` different subnets.

    Raises:
        ConfigError: so many draws did not find as many.
    """
    name, limit = next(iter(subnets.limits.items()))
    found: list[Subnet] = []
    with ProgressDisplay("drawing subnets", count) as display:
        for _ in range(MAX_DRAWS * count):
            subnet = sample_sized(subnets.net.space, rng)
            is_near = NEAR * limit <= subnets.cost(name, subnet) <= limit
            if is_near and subnet not in found and subnets.is_allowed(subnet):
                found.append(subnet)
                display.advance(f"{name} {subnets.cost(name, subnet):.3g}")
                if len(found) == count:
                    return found
    raise ConfigError(f"search: --random {count}: only {len(found)} subnets were found with {name} at {limit:g}")
