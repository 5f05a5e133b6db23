"""Where the texts of a forward pass lie: sorted by length in one row, in groups that are padded to similar lengths.

Shapes: N texts, T tokens of all N texts together, L tokens of the longest text of a group of n, H heads, D dimension.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

SPREAD = 1.25
"""The longest text of a group is at most this many times as long as the shortest."""
BUDGET = {"cpu": 1024, "cuda": 16384}
"""Tokens of a padded chunk, padding included."""
ROW = 4
"""Without padding, `Encoder.encode` puts this many times more tokens into a forward pass."""


@dataclass
class Group:
    """Texts that are next to each other and padded to the longest of them.

    Attributes:
        sizes: int [n], tokens of each text, on the device.
        tokens: number of tokens of all its texts.
        longest: L.
        cells: int [n L], for each cell of the padded [n, L] its token, counted from the group's first; cells of padding
            show the first. None if all texts are of one length.
        places: int [tokens], for each token its cell.
    """

    sizes: Tensor
    tokens: int
    longest: int
    cells: Tensor | None = None
    places: Tensor | None = None
    _masks: dict[tuple[bool, int | None], Tensor | None] = field(default_factory=dict)

    def pad(self, rows: Tensor) -> Tensor:
        """Rows of tokens [tokens, ...] as padded [n, L, ...]."""
        if self.cells is not None:
            rows = _Take.apply(rows, self.cells, self.places)
        return rows.unflatten(0, (len(self.sizes), self.longest))

    def unpad(self, padded: Tensor) -> Tensor:
        """The inverse of `pad`."""
        rows = padded.flatten(0, 1)
        return rows if self.cells is None else _Put.apply(rows, self.places)

    @property
    def there(self) -> Tensor:
        """Which cells are no padding, bool [n, L]."""
        return torch.arange(self.longest, device=self.sizes.device) < self.sizes[:, None]

    def mask(self, causal: bool, window: int | None) -> Tensor | None:
        """Which tokens see which, bool that expands to [n, 1, L, L]; None if all do (or all before them, if causal)."""
        key = causal, window if window is not None and window < self.longest else None
        if key not in self._masks:
            self._masks[key] = self._mask(*key)
        return self._masks[key]

    def _mask(self, causal: bool, window: int | None) -> Tensor | None:
        if window is None and (causal or self.cells is None):
            return None  # padding comes after all that a text's own tokens see
        seen = self.there[:, None, None]
        if window is not None:
            place = torch.arange(self.longest, device=self.sizes.device)
            distance = place[:, None] - place
            near = (distance < window) & (distance >= 0 if causal else distance > -window)
            seen = (seen & near) | (distance == 0)  # without a token to see, a row of padding would be NaN
        return seen


@dataclass
class Layout:
    """Where the texts of one forward pass lie, made on the host and copied once.

    Attributes:
        tokens: int [T], for each token of the row its place in the flat ids.
        positions: int [T], its place in its text, from 0.
        back: int [N], for each text its place among the sorted ones.
        starts: int32 [N + 1], where texts begin in the row, and the end.
        groups: the texts in groups, longest first.
        longest: tokens of the longest text.
        used: whether the attention below has seen it.
    """

    tokens: Tensor
    positions: Tensor
    back: Tensor
    starts: Tensor
    groups: list[Group]
    longest: int
    used: bool = False


def lay_out(lengths: Tensor, device: torch.device, packed: bool) -> Layout:
    """The layout of texts of these lengths, int [N] on the CPU, each at least 1.

    Groups are cut by `SPREAD` if `packed`, else by `BUDGET`, as each of them is a forward pass.
    """
    sizes = lengths.numpy()
    order = np.argsort(-sizes, kind="stable")
    first = (np.cumsum(sizes) - sizes)[order]  # in the flat ids
    back, sizes = np.argsort(order), sizes[order]
    starts = np.append(0, np.cumsum(sizes))
    positions = np.arange(starts[-1]) - np.repeat(starts[:-1], sizes)
    arrays = [np.repeat(first, sizes) + positions, positions, back, starts, sizes]
    cuts = _cut_by_spread(sizes) if packed else cut_by_budget(sizes, device)
    uneven = []
    for a, b in cuts:
        if sizes[a] > sizes[b - 1]:
            uneven.append(a)
            place = np.repeat(np.arange(b - a) * sizes[a], sizes[a:b]) + positions[starts[a] : starts[b]]
            cells = np.zeros((b - a) * sizes[a], dtype=np.int64)
            cells[place] = np.arange(len(place))
            arrays += [cells, place]
    flat = torch.from_numpy(np.concatenate(arrays).astype(np.int64))
    if device.type == "cuda":
        flat = flat.pin_memory().to(device, non_blocking=True)
    parts = iter(flat.to(device).split([len(array) for array in arrays]))
    tokens, positions_, back_, starts_, sizes_ = (next(parts) for _ in range(5))
    groups = [
        Group(
            sizes_[a:b],
            int(starts[b] - starts[a]),
            int(sizes[a]),
            *((next(parts), next(parts)) if a in uneven else ()),
        )
        for a, b in cuts
    ]
    return Layout(tokens, positions_, back_, starts_.int(), groups, int(sizes[0]))


def cut_by_budget(sizes: np.ndarray, device: torch.device, packed: bool = False) -> list[tuple[int, int]]:
    """Cuts sorted texts, longest first, where a padded group would be above the device's `BUDGET` (and `ROW`)."""
    budget = BUDGET.get(device.type, BUDGET["cuda"]) * (ROW if packed else 1)
    cuts, first = [], 0
    while first < len(sizes):
        last = min(len(sizes), first + max(1, budget // int(sizes[first])))
        cuts.append((first, last))
        first = last
    return cuts


def _cut_by_spread(sizes: np.ndarray) -> list[tuple[int, int]]:
    cuts, first = [], 0
    while first < len(sizes):
        last = int(np.searchsorted(-sizes, -sizes[first] / SPREAD, side="right"))
        cuts.append((first, last))
        first = last
    return cuts


class _Take(torch.autograd.Function):
    """`rows[cells]`. Its gradient is taken from `places` alone, as that of padding is nothing."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, cells: Tensor, places: Tensor) -> Tensor:
        ctx.places = places
        return rows.index_select(0, cells)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient.index_select(0, ctx.places), None, None


class _Put(torch.autograd.Function):
    """`padded[places]`, whose gradient is copied to where it belongs; torch would add, which is slower."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, places: Tensor) -> Tensor:
        ctx.places, ctx.cells = places, len(padded)
        return padded.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        whole = gradient.new_zeros(ctx.cells, *gradient.shape[1:])
        return whole.index_copy_(0, ctx.places, gradient), None
