"""LoRA: small trainable matrices beside frozen linear layers (Hu et al. 2021, arXiv 2106.09685).

y = W x + alpha / rank B A x, with A [rank, in] and B [out, rank]. B starts at 0, so an encoder starts as it was, and
afterwards the product is added to W: a merged encoder has the layers, and the speed, of the one that it was made of.
"""

import re
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hybridir.model.encoder import Encoder

DEFAULT = ("query", "value", "q_proj", "v_proj", "q", "v", "q_lin", "v_lin")
"""Names of the query and value projections of BERT and its kin, of causal models, of T5 and of DistilBERT."""


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """LoRA: trains small matrices beside frozen layers of the backbone, for less memory.

    All else of the backbone is frozen too; a dense head and the temperature are trained as without LoRA. The saved
    model has the matrices merged into its layers.

    Args:
        rank: rank of the matrices; 0 is off.
        alpha: they are scaled by alpha / rank. Omitted: twice the rank.
        dropout: dropout before the matrices.
        layers: number of layers that get matrices, from the first. Omitted: all.
        targets: names of the linear layers. Omitted: those of the projections to queries and values of attention.
    """

    rank: int = 0
    alpha: float | None = None
    dropout: float = 0.0
    layers: int | None = None
    targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.rank < 0:
            raise ValueError(f"lora.rank is {self.rank}: it must be at least 0")
        if self.alpha is not None and not self.alpha > 0:
            raise ValueError(f"lora.alpha is {self.alpha}: it must be above 0")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"lora.dropout is {self.dropout}: it must be at least 0 and below 1")
        if self.layers is not None and self.layers < 1:
            raise ValueError(f"lora.layers is {self.layers}: it must be at least 1")


class Adapted(nn.Module):
    """A frozen linear layer with LoRA's matrices beside it, drawn from `random`."""

    def __init__(self, base: nn.Linear, config: LoraConfig, random: torch.Generator) -> None:
        super().__init__()
        self.base, self.dropout = base, nn.Dropout(config.dropout)
        self.scale = 2.0 if config.alpha is None else config.alpha / config.rank
        bound = base.in_features**-0.5
        down = torch.rand(config.rank, base.in_features, generator=random) * 2 * bound - bound
        self.down = nn.Parameter(down.to(base.weight))
        self.up = nn.Parameter(base.weight.new_zeros(base.out_features, config.rank))

    def forward(self, hidden: Tensor) -> Tensor:
        """What the layer makes of [..., in]: [..., out]."""
        return self.base(hidden) + nn.functional.linear(
            nn.functional.linear(self.dropout(hidden), self.down), self.scale * self.up
        )

    def merged(self) -> nn.Linear:
        """The layer with the matrices added to its weights."""
        with torch.no_grad():
            self.base.weight += self.scale * self.up @ self.down
        return self.base


def inject(encoder: Encoder, config: LoraConfig, seed: int) -> None:
    """Freezes the backbone, and puts LoRA's matrices beside its layers, the same ones for a seed.

    Raises:
        ValueError: the backbone has no such layer.
    """
    random = torch.Generator().manual_seed(seed)
    encoder.backbone.requires_grad_(False)
    linear = {name: one for name, one in encoder.backbone.named_modules() if isinstance(one, nn.Linear)}
    targets = config.targets or DEFAULT
    chosen = [name for name in linear if name.rpartition(".")[2] in targets and _layer(name) < (config.layers or 2**31)]
    if not chosen:
        known = ", ".join(sorted({name.rpartition(".")[2] for name in linear}))
        raise ValueError(
            f"lora.targets is {', '.join(targets)}, and the encoder {encoder.config.name!r} has no such layer: name "
            f"some of {known}"
        )
    for name in chosen:
        _replace(encoder.backbone, name, Adapted(linear[name], config, random))


def merge(encoder: Encoder) -> None:
    """Adds LoRA's matrices to the layers beside them, and takes them out; all weights can be trained again."""
    for name, one in list(encoder.backbone.named_modules()):
        if isinstance(one, Adapted):
            _replace(encoder.backbone, name, one.merged())
    encoder.backbone.requires_grad_(True)


def trainable(module: nn.Module) -> str:
    """How many weights of a module are trained, and what that saves, in words."""
    sizes = [(one.numel(), one.numel() * one.element_size(), one.requires_grad) for one in module.parameters()]
    count, whole = (sum(n for n, _, trained in sizes if trained or every) for every in (False, True))
    own, all_of_it = (sum(3 * size for _, size, trained in sizes if trained or every) for every in (False, True))
    return (
        f"LoRA trains {count:,} of {whole:,} weights ({count / whole:.2%}): gradients and moments take "
        f"{own / 2**20:,.1f} MB instead of {all_of_it / 2**20:,.1f} MB"
    )


def _layer(name: str) -> int:
    """The number of the layer that a module is in; 0 outside of layers."""
    found = re.search(r"\.(\d+)\.", f".{name}.")
    return int(found[1]) if found else 0


def _replace(root: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(root.get_submodule(parent), own, module)
