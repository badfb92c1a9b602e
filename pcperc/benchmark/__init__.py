# SPDX-License-Identifier: Apache-2.0
"""Measurements of layers and models, beside other libraries where they are installed. tools/benchmark.py calls them."""
