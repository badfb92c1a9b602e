# SPDX-License-Identifier: Apache-2.0
"""Search for the subnets of a trained super network that score best for what they cost."""

from pcperc.search.run import SearchOptions as SearchOptions
from pcperc.search.run import search as search
