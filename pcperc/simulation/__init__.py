# SPDX-License-Identifier: Apache-2.0
"""Simulators that write data sets in the published formats. Imported by tools and tests only."""
