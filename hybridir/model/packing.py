"""Runs a backbone over many texts with little padding or none.

Texts lie one after the other in a single row, longest first, and only attention looks at where they begin and end: a
kernel for texts of many lengths on GPUs, elsewhere groups of similar lengths. transformers lets a model take such an
attention function by its name. Backbones that do not use that interface, or look at positions in another way, run over
the groups one by one, padded. Both ways give the same vectors.

Shapes: N texts, T tokens of all N texts together, L tokens of the longest text of a group of n, H heads, D dimension.
"""

import importlib.util
import inspect
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hybridir.model.groups import Layout
from hybridir.runtime.progress import say

PACKED = "hybridir_packed"
"""The name of the attention function below among those of transformers."""
SHIFTED = ("roberta", "camembert", "xlm-roberta")
"""Of those types, the ones whose position numbers start after the padding id, and skip padding ids within a text."""
TYPES = ("bert", "electra", "distilbert", *SHIFTED, "modernbert", "llama", "mistral", "qwen2", "qwen3")
"""Types of model that are known to run without padding: `tests/model/test_packing.py` compares each."""
_HAS_FLASH = importlib.util.find_spec("flash_attn") is not None


def prepare(backbone: Any) -> None:
    """Lets a backbone use the packed attention, if it is of a type that can."""
    config = backbone.config
    if (
        config.model_type in TYPES
        and backbone._supports_attention_backend
        and config._attn_implementation == "sdpa"
        and getattr(config, "is_causal", None) is None  # a decoder that was made to see both ways
    ):
        _register()
        backbone.set_attn_implementation(PACKED)


@cache
def _register() -> None:
    """Not when this module is imported: what is imported here takes seconds, and a dry run loads no model."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(PACKED, _attention)
    AttentionMaskInterface.register(PACKED, _mask)


@cache
def _has_varlen() -> bool:
    from torch.nn.attention.varlen import varlen_attn

    return {"scale", "window_size", "enable_gqa"} <= set(inspect.signature(varlen_attn).parameters)


def can_pack(backbone: Any, device: torch.device) -> bool:
    """Whether the backbone runs without padding on that device, as it is now. If not, the reason is printed once."""
    config = backbone.config
    if config._attn_implementation != PACKED:
        return _no(f"{config.model_type} models do not take an attention function without it")
    if device.type == "cpu":
        return True
    dtype = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else backbone.dtype
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if device.type != "cuda" or dtype == torch.float32 or dtype == torch.float64 or head % 8 or head > 256:
        return _no(f"there is no kernel for {dtype} and heads of {head} on {device.type}")
    if torch.cuda.get_device_capability(device) < (8, 0):
        return _no(f"there is no kernel for {torch.cuda.get_device_name(device)}")
    names = ("attention_probs_dropout_prob", "attention_dropout")
    if backbone.training and any(getattr(config, name, 0.0) for name in names):
        return _HAS_FLASH or _no("only the package flash-attn has a kernel with dropout in attention")
    return _has_varlen() or _HAS_FLASH or _no("this torch has no kernel for it: install a newer one, or flash-attn")


@cache
def _no(reason: str) -> bool:
    say(f"texts are padded, in chunks of similar lengths: {reason}")
    return False


def run_packed(backbone: Any, ids: Tensor, layout: Layout) -> Tensor:
    """The backbone's vectors [T, D] of the texts in a row, from their flat token ids [T]."""
    row, positions = ids[layout.tokens], layout.positions
    if backbone.config.model_type in SHIFTED:
        padding = backbone.config.pad_token_id
        own = (row != padding).long()
        before = own.cumsum(0) - own
        within = before - before[torch.arange(len(row), device=row.device) - positions]
        positions = padding + (within + 1) * own
    options = _options(backbone) | {"layout": layout}
    hidden = backbone(input_ids=row[None], position_ids=positions[None], **options).last_hidden_state[0]
    assert layout.used, "transformers passes the layout on to the attention"
    return hidden


def run_padded(backbone: Any, ids: Tensor, layout: Layout, padding: int) -> Iterator[Tensor]:
    """The backbone's vectors [n, L, D] of each group, from the flat token ids [T]."""
    rows = ids[layout.tokens].split([group.tokens for group in layout.groups])
    for group, row in zip(layout.groups, rows, strict=True):
        there = group.there
        padded = group.pad(row).masked_fill(~there, padding)
        yield backbone(input_ids=padded, attention_mask=there.long(), **_options(backbone)).last_hidden_state


def _options(backbone: Any) -> dict[str, Any]:
    """A decoder would keep what it needs to go on writing."""
    return {"use_cache": False} if hasattr(backbone.config, "use_cache") else {}


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    layout: Layout | None = None,
    sliding_window: int | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """Attention of each text to itself: [1, T, H, D] from [1, H, T, D] each. Without a layout, that of torch.

    `sliding_window`: a token sees those at a distance below it.
    """
    if layout is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **more)
    layout.used = True
    causal = bool(getattr(module, "is_causal", False))
    rows = [states[0].transpose(0, 1) for states in (query, key, value)]
    if query.device.type == "cuda":
        return _by_kernel(rows, layout, dropout, scaling, causal, sliding_window)[None], None
    sizes, parts = [group.tokens for group in layout.groups], []
    for group, *states in zip(layout.groups, *(states.split(sizes) for states in rows), strict=True):
        mask, (own, seen, passed) = group.mask(causal, sliding_window), (group.pad(x).transpose(1, 2) for x in states)
        attended = F.scaled_dot_product_attention(
            own,
            seen,
            passed,
            attn_mask=mask,
            dropout_p=dropout,
            is_causal=causal and mask is None,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        parts.append(group.unpad(attended.transpose(1, 2)))
    return torch.cat(parts)[None], None


def _by_kernel(
    rows: list[Any],
    layout: Layout,
    dropout: float,
    scaling: float | None,
    causal: bool,
    window: int | None,
) -> Tensor:
    """Attention in one call on a GPU: [T, H, D] from [T, H, D] each."""
    width = -1 if window is None else window - 1
    sizes: Any = (layout.starts, layout.starts, layout.longest, layout.longest)
    seen = (width, 0 if causal else width)
    if dropout or not _has_varlen():
        from flash_attn import flash_attn_varlen_func  # type: ignore[import-not-found]

        options = {"dropout_p": dropout, "softmax_scale": scaling, "causal": causal, "window_size": seen}
        return flash_attn_varlen_func(*rows, *sizes, **options)
    from torch.nn.attention.varlen import varlen_attn

    gqa = rows[0].shape[1] != rows[1].shape[1]
    kernel: Callable[..., Tensor] = varlen_attn  # type: ignore[assignment]
    return kernel(*rows, *sizes, scale=scaling, window_size=seen, enable_gqa=gqa)


def _mask(*args: Any, attention_mask: Tensor | None = None, **options: Any) -> Tensor | None:
    """No mask for texts in a row, which come without one; for padded ones that of torch's attention."""
    from transformers.masking_utils import sdpa_mask

    return None if attention_mask is None else sdpa_mask(*args, attention_mask=attention_mask, **options)
