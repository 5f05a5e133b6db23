"""What batches are made of: kinds, and how often each is drawn.

A batch is `mono` (one language for the whole batch), `mixed` (each pair within one language, languages mixed), `cross`
(query and passage of every item in different languages) or `both` (half mono, half cross, each half with negatives of
its own). The methods of arXiv 2408.10536 and LAReQA (2004.05484) are weights (mono, mixed, cross): X-X-mono (1, 0, 0),
X-X (0, 1, 0), X-Y (0, 0, 1), hybrid with alpha (alpha, 0, 1 - alpha), En-En (1, 0, 0) with `languages: [en]`.
"""

from dataclasses import dataclass

KINDS = ("mono", "mixed", "cross", "both")


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """What batches are made of.

    Args:
        mono: probability that a batch has one language. With `mixed`, `cross` and `both` it sums to 1.
        mixed: probability that a batch mixes pairs that are each in one language.
        cross: probability that a batch has query and passage of every item in different languages.
        both: probability that the first half of a batch is as in `mono`, the rest as in `cross`, and that items of the
            two are no negatives of each other: its loss is the mean of a monolingual and a cross-lingual one.
        mono_first: batches from the start that are monolingual, whatever the probabilities.
        languages: languages to draw from; all of the corpus when omitted.
        language_exponent: a language (for cross an ordered pair of languages) is drawn with probability proportional
            to (number of its groups) ** language_exponent; 0 is uniform.
        source_exponent: then a source, in proportion to (number of its groups in these languages) ** source_exponent;
            1 makes every group equally likely.
        negatives: hard negatives of each item; groups with fewer are not drawn.
    """

    mono: float = 0.5
    mixed: float = 0.0
    cross: float = 0.5
    both: float = 0.0
    mono_first: int = 0
    languages: tuple[str, ...] | None = None
    language_exponent: float = 0.0
    source_exponent: float = 1.0
    negatives: int = 0

    def __post_init__(self) -> None:
        weights = tuple(self.weights)
        if not (min(weights) >= 0 and abs(sum(weights) - 1) <= 1e-9):  # not-a-number fails too
            raise ValueError(
                f"sampling.mono, mixed, cross and both are {weights}: they must be at least 0 and sum to 1"
            )
        for name in ("negatives", "mono_first"):
            if getattr(self, name) < 0:
                raise ValueError(f"sampling.{name} is {getattr(self, name)}: it must be at least 0")

    @property
    def weights(self) -> list[float]:
        """The probability of each of `KINDS`."""
        return [getattr(self, kind) for kind in KINDS]

    @property
    def parts(self) -> set[str]:
        """The kinds of batch, or of half a batch, that are drawn."""
        kinds = {kind for kind, weight in zip(KINDS, self.weights, strict=True) if weight}
        kinds |= {"mono", "cross"} if "both" in kinds else set()
        return (kinds | {"mono"} if self.mono_first else kinds) - {"both"}


def first_of_second_pool(batch_size: int) -> int:
    """Where the second half of a batch of the kind `both` begins."""
    return batch_size // 2
