# SPDX-License-Identifier: Apache-2.0
"""Import MMEngine's models once, without the warning that its import raises on torch 2.13."""

import warnings

with warnings.catch_warnings():
    # mmengine.model imports torch.distributed.optim, which still uses the deprecated torch.jit.script.
    warnings.simplefilter("ignore", DeprecationWarning)
    import mmengine.model  # noqa: F401
