"""What does the mix of batches do? Arms are the methods of arXiv 2408.10536 and LAReQA (2004.05484), and rivals.

All arms train for the same number of steps (or of tokens, with `train.tokens`), except the two "half" arms, which are
only there to be averaged. Every rival that takes twice the tokens has a variant that takes as many as the other arms.
"""

from hybridir.evaluation.settings import SETTINGS
from hybridir.experiments.claims import Claim, Languages, Part, Relation
from hybridir.experiments.study import Arm, Published, Study, StudyRecipe
from hybridir.training.config import LENGTHS

MONO, CROSS, HYBRID = "X-X-mono", "X-Y", "hybrid"
MONO_HALF, CROSS_HALF = "X-X-mono half", "X-Y half"
AVERAGE, AVERAGE_EQUAL = "average", "average equal tokens"
SUM, SUM_DOUBLE = "sum", "sum double tokens"


def arms(recipe: StudyRecipe) -> list[Arm]:
    """All arms. Length and batch size are the recipe's unless an arm changes them.

    En-En needs English in the data.
    """
    train = recipe.train
    length = {name: value for name in LENGTHS if (value := getattr(train, name))}
    half = {name: max(1, value // 2) for name, value in length.items()} | {"warmup_steps": train.warmup_steps // 2}
    double = {"batch_size": 2 * train.batch_size} | ({"tokens": 2 * train.tokens} if train.tokens else {})
    first = {"mono_first_tokens": train.tokens // 2} if train.tokens else {"mono_first": (train.steps or 0) // 2}
    english = "en" in (recipe.sampling.languages or recipe.data.languages or ("en",))
    found = [
        Arm(name=MONO, about="every batch in one language", changes=_mix(mono=1)),
        Arm(name=CROSS, about="query and passage of every pair in different languages", changes=_mix(cross=1)),
        Arm(
            name=HYBRID,
            about="a batch is in one language with probability 0.5, else cross-lingual",
            changes=_mix(mono=0.5, cross=0.5),
        ),
        *(
            Arm(
                name=f"hybrid {alpha}",
                about=f"a batch is in one language with probability {alpha}, else cross-lingual",
                changes=_mix(alpha, cross=1 - alpha),
            )
            for alpha in (0.4, 0.6)
        ),
        Arm(name="X-X", about="every pair in one language, several languages in a batch", changes=_mix(mixed=1)),
        Arm(
            name="three-way",
            about="a batch is as in X-X-mono, X-X or X-Y, each with probability 1/3",
            changes=_mix(mono=1 / 3, mixed=1 / 3, cross=1 - 2 / 3),
        ),
        Arm(
            name="mono then cross",
            about="X-X-mono for the first half, then X-Y; the learning rate decays once over both",
            changes={"sampling": _mix(cross=1)["sampling"] | first},
        ),
        Arm(
            name=SUM,
            about="half of each batch as in X-X-mono, half as in X-Y; the sum of their losses, so half the negatives",
            changes=_mix(both=1),
        ),
        Arm(
            name=SUM_DOUBLE,
            about="sum, with batches twice as large: twice the tokens",
            changes=_mix(both=1) | {"train": double},
        ),
        Arm(name=MONO_HALF, about="X-X-mono for half as long", changes=_mix(mono=1) | {"train": half}),
        Arm(name=CROSS_HALF, about="X-Y for half as long", changes=_mix(cross=1) | {"train": half}),
        Arm(
            name=AVERAGE,
            about="the mean of the weights of X-X-mono and X-Y: twice the tokens",
            made_of=(MONO, CROSS),
        ),
        Arm(
            name=AVERAGE_EQUAL,
            about="the mean of the weights of X-X-mono half and X-Y half: equal tokens",
            made_of=(MONO_HALF, CROSS_HALF),
        ),
    ]
    only = Arm(
        name="En-En",
        about="pairs in English only; all other languages are zero-shot",
        changes={"sampling": _mix(mono=1)["sampling"] | {"languages": ("en",)}},
    )
    return [*found, only] if english else found


def _mix(mono: float = 0.0, mixed: float = 0.0, cross: float = 0.0, both: float = 0.0) -> dict[str, dict[str, object]]:
    return {"sampling": {"mono": mono, "mixed": mixed, "cross": cross, "both": both}}


def _than(
    baseline: str, setting: str, relation: Relation = "better", measure: str = "mAP", languages: Languages = "all"
) -> Part:
    return Part(arm=HYBRID, baseline=baseline, setting=setting, relation=relation, measure=measure, languages=languages)


def _beats(baseline: str, text: str) -> Claim:
    """Hybrid beats a rival if it is better in multilingual retrieval, and not worse in the two other settings."""
    parts = [_than(baseline, s, "better" if s == "multilingual" else "not worse") for s in SETTINGS]
    return Claim(id=f"than {baseline}", text=text, source="sceptic", parts=tuple(parts))


def _paper(name: str, text: str, *parts: Part) -> Claim:
    return Claim(id=name, text=text, source="paper", parts=parts)


CLAIMS = (
    _paper(
        "mono",
        "Within a language, hybrid is not worse than X-X-mono.",
        _than(MONO, "monolingual", "not worse"),
    ),
    _paper(
        "cross",
        "Across languages, hybrid is not worse than X-Y.",
        _than(CROSS, "crosslingual", "not worse"),
    ),
    _paper(
        "multi",
        "In multilingual retrieval, hybrid is better than X-X-mono and better than X-Y.",
        _than(MONO, "multilingual"),
        _than(CROSS, "multilingual"),
    ),
    _paper(
        "bias mono",
        "Hybrid is less biased towards languages than X-X-mono: its rank distance is lower.",
        _than(MONO, "multilingual", measure="rank_distance"),
    ),
    _paper(
        "bias cross",
        "Hybrid is not more biased than X-Y.",
        _than(CROSS, "multilingual", "not worse", measure="rank_distance"),
    ),
    _paper(
        "zero-shot",
        "Languages that were not trained on gain too: for them, hybrid is better than X-X-mono in cross-lingual and in "
        "multilingual retrieval, and better than X-Y in multilingual retrieval.",
        _than(MONO, "crosslingual", languages="zero-shot"),
        _than(MONO, "multilingual", languages="zero-shot"),
        _than(CROSS, "multilingual", languages="zero-shot"),
    ),
    _paper(
        "flat",
        "It makes no difference whether a batch is monolingual with probability 0.4, 0.5 or 0.6.",
        *(
            Part(arm=arm, baseline=HYBRID, setting=setting, relation="equal")
            for arm in ("hybrid 0.4", "hybrid 0.6")
            for setting in SETTINGS
        ),
    ),
    _beats(AVERAGE, "Hybrid beats the weight average of an X-X-mono and an X-Y model, which takes twice its tokens."),
    _beats(AVERAGE_EQUAL, "Hybrid beats the weight average of X-X-mono and X-Y at equal tokens."),
    _beats("three-way", "Hybrid beats the mix of all three kinds of batch."),
    _beats("mono then cross", "Hybrid beats X-X-mono followed by X-Y."),
    _beats(SUM, "Hybrid beats the sum of both losses in every step, at equal tokens."),
    _beats(SUM_DOUBLE, "Hybrid beats the sum of both losses with twice its tokens."),
    _beats("X-X", "Hybrid beats X-X, whose batches mix monolingual pairs of several languages."),
)

_PUBLISHED = {
    "xquad-r": (
        ("XLM-R", "X-X-mono", 0.792, 0.674, 0.547, 410),
        ("XLM-R", "X-Y", 0.755, 0.700, 0.593, 295),
        ("XLM-R", "hybrid", 0.798, 0.705, 0.593, 287),
        ("LaBSE", "X-X-mono", 0.808, 0.752, 0.652, 262),
        ("LaBSE", "X-Y", 0.801, 0.762, 0.679, 225),
        ("LaBSE", "hybrid", 0.817, 0.767, 0.682, 221),
    ),
    "mlqa-r": (
        ("XLM-R", "X-X-mono", 0.648, 0.584, 0.473, 288),
        ("XLM-R", "X-Y", 0.626, 0.620, 0.508, 227),
        ("XLM-R", "hybrid", 0.648, 0.623, 0.512, 227),
        ("LaBSE", "X-X-mono", 0.681, 0.656, 0.550, 225),
        ("LaBSE", "X-Y", 0.671, 0.677, 0.576, 198),
        ("LaBSE", "hybrid", 0.686, 0.681, 0.579, 195),
    ),
}
"""By benchmark: encoder, method, mAP in the three settings, and rank distance, from arXiv 2408.10536."""

SAMPLING = Study(
    name="sampling",
    title="What the mix of batches does",
    about="A retriever learns to tell the right passage from the others in its batch, so it matters which languages "
    "share a batch. Each arm mixes them in another way; everything else is equal, unless the arm says otherwise.",
    reference=HYBRID,
    arms=arms,
    claims=CLAIMS,
    published=Published(
        note="arXiv 2408.10536: trained on other data, measured on the whole benchmark",
        rows={
            benchmark: [dict(zip(("encoder", "method", *SETTINGS, "rank_distance"), row, strict=True)) for row in rows]
            for benchmark, rows in _PUBLISHED.items()
        },
    ),
    sources={"paper": "Claims of the paper", "sceptic": "What a sceptic would ask"},
)
