"""The precision of weights and similarities."""

import torch


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """float32 instead of a half type, which is too coarse for weights and similarities; float64 stays."""
    return torch.promote_types(dtype, torch.float32)
