# SPDX-License-Identifier: Apache-2.0
"""BEVFusion: camera and LiDAR fused in the bird's-eye view."""
