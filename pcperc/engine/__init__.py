# SPDX-License-Identifier: Apache-2.0
"""Training, testing and inference: what MMEngine lacks, and what the tools call."""

from pcperc.engine.loading import LoadedCheckpoint, load_model, newest_checkpoint, open_checkpoint

__all__ = ["LoadedCheckpoint", "load_model", "newest_checkpoint", "open_checkpoint"]
