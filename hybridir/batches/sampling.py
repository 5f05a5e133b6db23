"""The kinds of batch, and how often each is drawn: by the name of a method, or by weights.

A batch is `mono` (one language for the whole batch), `mixed` (each pair within one language, languages mixed), `cross`
(query and passage of every item in different languages) or `both` (half mono, half cross, each half with its own
negatives). The methods of arXiv 2408.10536 and LAReQA (arXiv 2004.05484) are weights (mono, mixed, cross): X-X-mono is
(1, 0, 0), X-X (0, 1, 0), X-Y (0, 0, 1), hybrid (alpha, 0, 1 - alpha), En-En (1, 0, 0) with `languages: [en]`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from hybridir.data.languages import spell_languages
from hybridir.perturbations import PERTURBATIONS, Perturbing
from hybridir.perturbations.perturbation import Perturbation, Severity, check_severity
from hybridir.perturbations.phrases import code_switching
from hybridir.runtime.words import did_you_mean

KINDS = ("mono", "mixed", "cross", "both")
METHODS: dict[str, tuple[float, ...]] = {
    "X-X-mono": (1.0, 0.0, 0.0, 0.0),
    "X-X": (0.0, 1.0, 0.0, 0.0),
    "X-Y": (0.0, 0.0, 1.0, 0.0),
    "hybrid": (0.5, 0.0, 0.5, 0.0),
    "En-En": (1.0, 0.0, 0.0, 0.0),
    "sum": (0.0, 0.0, 0.0, 1.0),
}
"""Weights of `KINDS` by the name of a method; those of hybrid are for alpha 0.5."""


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Noise on the queries of training. Validation and benchmarks stay as they are.

    Args:
        probability: probability that a query is replaced by one with noise, in each step anew; 0 is off.
        kinds: kinds of noise; a noisy query gets one of those that apply to its language, each equally likely.
        severity: share of the units of a text that are edited, 0 to 1; or `one`: one edit in every noisy query.
        lexicon: file of translations for `code_mixing`, lines of language, word and translation between tabs: any of
            these words is then mixed in. Omitted: names of territories and languages.
    """

    probability: float = 0.0
    kinds: tuple[Perturbing, ...] = ("delete",)
    severity: Severity = "one"
    lexicon: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"sampling.noise.probability is {self.probability}: it must be from 0 to 1")
        if not self.kinds or set(self.kinds) - set(PERTURBATIONS):
            raise ValueError(f"sampling.noise.kinds is {self.kinds}: name some of {', '.join(PERTURBATIONS)}")
        check_severity(self.severity, "sampling.noise.severity")
        if self.lexicon and "code_mixing" not in self.kinds:
            raise ValueError(
                f"sampling.noise.lexicon is {self.lexicon}, which only code_mixing uses: add it to the kinds"
            )

    def perturbation(self, kind: str) -> Perturbation:
        """A kind of noise, with the lexicon if it has one; `ValueError` if that cannot be read."""
        return code_switching(self.lexicon) if self.lexicon and kind == "code_mixing" else PERTURBATIONS[kind]

    def kinds_in(self, language: str) -> list[str]:
        """Those of the kinds that apply to a language."""
        return [kind for kind in self.kinds if self.perturbation(kind).applies(language)]

    def check(self, languages: Sequence[str]) -> None:
        """Raises `ValueError` if the queries of some language would stay clean."""
        if clean := [language for language in languages if not self.kinds_in(language)]:
            raise ValueError(
                f"sampling.noise.kinds is {', '.join(self.kinds)}, but none of them applies to queries in "
                f"{', '.join(clean)}: add a kind that does, or leave these languages out of sampling.languages"
            )


@dataclass(frozen=True, kw_only=True)
class Translations:
    """Translations of an item's texts, given to the losses as further views of the item.

    They are drawn anew in each step, uniformly from the other languages in which the group has a pair; an item with
    fewer such languages has fewer translations. They are embedded, and change the loss only through a term that uses
    them (such as `loss.multilingual`).

    Args:
        passage: number of translations of each positive passage.
        query: number of translations of each query.
        languages: languages to draw translations from, also others than `sampling.languages`. Omitted: the latter.
            In another order they give other draws.
    """

    passage: int = 0
    query: int = 0
    languages: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        spell_languages(self)
        for name in ("passage", "query"):
            if getattr(self, name) < 0:
                raise ValueError(f"sampling.translations.{name} is {getattr(self, name)}: it must be at least 0")


@dataclass(frozen=True, kw_only=True)
class LowResource:
    """Makes languages low-resource: only a share of their pairs and texts is used.

    What is kept is chosen by hash, so that a smaller share is a part of a larger one, and the questions that keep a
    pair are among those that keep their texts. The tokenizer stays that of all data.

    Args:
        languages: codes of the languages.
        pairs: share of the questions that are drawn as pairs in each of them, 0 to 1.
        texts: share of the questions whose texts in each of them can be translations (bitext), from `pairs` to 1.
    """

    languages: tuple[str, ...] = ()
    pairs: float = 1.0
    texts: float = 1.0

    def __post_init__(self) -> None:
        spell_languages(self)
        if not 0 <= self.pairs <= self.texts <= 1:
            raise ValueError(
                f"sampling.low_resource.pairs is {self.pairs} and texts {self.texts}: they must be from 0 to 1, and "
                "pairs not above texts"
            )


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Which batches are drawn.

    Args:
        method: the mix by its name, instead of weights: `X-X-mono` (each batch in one language), `X-X` (each pair
            within a language, languages mixed), `X-Y` (query and passage in different languages), `hybrid` (X-X-mono
            with probability `alpha`, else X-Y), `En-En` (English alone), `sum` (each batch half X-X-mono, half X-Y).
            The weights are kept, not the name.
        alpha: for hybrid only: the probability of a batch in one language. Omitted: 0.5.
        mono: probability of a batch in one language. `mono`, `mixed`, `cross` and `both` must sum to 1.
        mixed: probability of a batch of pairs in several languages, query and passage of each pair in the same one.
        cross: probability of a batch in which query and passage of every item are in different languages.
        both: probability of a batch whose first half is as in `mono` and whose second half is as in `cross`. Items of
            one half are no negatives of the other half, so the loss is the mean of a monolingual and a cross-lingual
            loss.
        mono_first: number of steps at the start of training with a `mono` batch, whatever the probabilities.
        mono_first_tokens: number of tokens, instead of the steps of `mono_first`: they end with the step that reaches
            it.
        languages: languages to draw from. Omitted: all languages of the corpus.
        language_exponent: a language (for `cross`, an ordered pair of languages) is drawn with probability proportional
            to (number of its groups) ** language_exponent; 0 is uniform.
        source_exponent: in these languages, a source is drawn with probability proportional to (number of its groups in
            them) ** source_exponent; 1 makes every group equally likely.
        negatives: number of hard negatives of each item; passages with fewer are not drawn.
        groups: number of groups to train on, chosen by hash and in all domains alike, so that a smaller number is a
            part of a larger one. The tokenizer and the validation pairs stay those of all data. Omitted: all.
        translated: share of the groups that are drawn in all languages; the others keep one, each equally likely.
        without_domains: domains to leave out, in training and validation: their groups, and all that have a passage in
            common with one of them. A pair without the field `domain` has the domain that its format assigns, if any.
        low_resource: languages of which only a part of the pairs and texts is used.
        translations: translations of passages and queries beside them.
        noise: noise on the queries.
    """

    method: str | None = None
    alpha: float | None = None
    mono: float = 0.5
    mixed: float = 0.0
    cross: float = 0.5
    both: float = 0.0
    mono_first: int = 0
    mono_first_tokens: int = 0
    languages: tuple[str, ...] | None = None
    language_exponent: float = 0.0
    source_exponent: float = 1.0
    negatives: int = 0
    groups: int | None = None
    translated: float = 1.0
    without_domains: tuple[str, ...] = ()
    low_resource: LowResource = field(default_factory=LowResource)
    translations: Translations = field(default_factory=Translations)
    noise: Noise = field(default_factory=Noise)

    def __post_init__(self) -> None:
        spell_languages(self)
        if self.method is not None:
            self._take(self.method, self.alpha)
        elif self.alpha is not None:
            raise ValueError(f"sampling.alpha is {self.alpha}, which only sampling.method hybrid uses: name that too")
        weights = tuple(self.weights)
        if not (min(weights) >= 0 and abs(sum(weights) - 1) <= 1e-9):  # NaN fails too
            raise ValueError(
                f"sampling.mono, mixed, cross and both are {weights}: they must be at least 0 and sum to 1"
            )
        for name in ("negatives", "mono_first", "mono_first_tokens"):
            if getattr(self, name) < 0:
                raise ValueError(f"sampling.{name} is {getattr(self, name)}: it must be at least 0")
        if self.mono_first and self.mono_first_tokens:
            raise ValueError(
                f"sampling.mono_first is {self.mono_first} and sampling.mono_first_tokens is "
                f"{self.mono_first_tokens}: give only one of them"
            )
        if self.groups is not None and self.groups < 1:
            raise ValueError(f"sampling.groups is {self.groups}: it must be at least 1")
        if not 0 <= self.translated <= 1:
            raise ValueError(f"sampling.translated is {self.translated}: it must be from 0 to 1")

    def _take(self, method: str, alpha: float | None) -> None:
        """Sets the weights, and the language of En-En, to those of a method, and forgets its name.

        So every mix has one form, and its weights can be replaced. `ValueError` if other weights are given.
        """
        if method not in METHODS:
            known = ", ".join(METHODS)
            raise ValueError(f"sampling.method {method!r} is unknown{did_you_mean(method, METHODS)}; there are {known}")
        wanted = METHODS[method]
        if alpha is not None:
            if method != "hybrid" or not 0 <= alpha <= 1:
                raise ValueError(f"sampling.alpha is {alpha}: only the method hybrid uses it, with a value from 0 to 1")
            wanted = (alpha, 0.0, 1 - alpha, 0.0)
        given = tuple(self.weights)
        if given not in (METHODS["hybrid"], wanted):  # hybrid: nothing was given, these are the defaults
            named = ", ".join(f"{kind} {weight:g}" for kind, weight in zip(KINDS, given, strict=True) if weight)
            raise ValueError(
                f"sampling.method is {method}, but the weights are those of another mix ({named}): give the method or "
                "the weights"
            )
        if method == "En-En":
            if self.languages not in (None, ("en",)):
                raise ValueError(
                    "sampling.method is En-En, but sampling.languages has "
                    f"{', '.join(self.languages or ())}: leave that out"
                )
            object.__setattr__(self, "languages", ("en",))
        for name, value in {**dict(zip(KINDS, wanted, strict=True)), "method": None, "alpha": None}.items():
            object.__setattr__(self, name, value)

    @property
    def weights(self) -> list[float]:
        """The probability of each of `KINDS`."""
        return [getattr(self, kind) for kind in KINDS]

    @property
    def parts(self) -> set[str]:
        """The kinds that are drawn, with `both` taken apart into `mono` and `cross`."""
        kinds = {kind for kind, weight in zip(KINDS, self.weights, strict=True) if weight}
        kinds |= {"mono", "cross"} if "both" in kinds else set()
        return (kinds | {"mono"} if self.mono_first or self.mono_first_tokens else kinds) - {"both"}


def first_of_second_pool(batch_size: int) -> int:
    """The index of the first item of the second half, in a batch of the kind `both`."""
    return batch_size // 2
