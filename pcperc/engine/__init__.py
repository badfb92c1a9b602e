# SPDX-License-Identifier: Apache-2.0
"""Training, testing and inference: what MMEngine lacks, and what the tools call."""
