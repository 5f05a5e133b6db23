"""What is computed in which precision."""

import torch


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """float32 for half types, whose similarities and weights would be too coarse; float64 stays."""
    return torch.promote_types(dtype, torch.float32)
