# SPDX-License-Identifier: Apache-2.0
"""pytest plugin (``-p tests.part``): with PCPERC_TEST_PART=I/N, every N-th of the selected tests from number I on.

For tools/sanitize_gpu.sh; op_contract.py takes it as the sign that each launch is slow.
"""

import os


def pytest_collection_modifyitems(config, items):
    number, parts = map(int, os.environ["PCPERC_TEST_PART"].split("/"))
    others = [item for place, item in enumerate(items) if place % parts != number]
    config.hook.pytest_deselected(items=others)
    items[:] = items[number::parts]
