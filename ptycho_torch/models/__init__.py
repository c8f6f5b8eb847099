"""Networks that invert diffraction.

A generator is built from a ``ModelConfig``. It maps input amplitudes [B, C, N, N] to complex object patches
[B, C', N, N], where C' is C, or 1 when one patch is shared by the group.
"""

from __future__ import annotations

from ptycho_torch.variants import GENERATORS

__all__ = ["GENERATORS"]
