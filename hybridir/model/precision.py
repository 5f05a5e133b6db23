"""The precision of weights and similarities."""

import platform

import torch


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """float32 instead of a half type, which is too coarse for weights and similarities; float64 stays."""
    return torch.promote_types(dtype, torch.float32)


def multiplies_bfloat16() -> bool:
    """Whether this CPU multiplies in bfloat16 (AMX, AVX512-BF16, Arm's BF16); others are slower than in float32."""
    if platform.machine() in ("aarch64", "arm64"):
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
