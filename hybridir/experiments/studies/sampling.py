"""What does the mix of batches do? The methods of arXiv 2408.10536 and LAReQA (2004.05484), and a sceptic's.

Arms have the same steps, but for those that are half a run, to be averaged; where one takes double tokens, another of
the same idea takes as many as all others.
"""

from hybridir.evaluation.settings import SETTINGS
from hybridir.experiments.claims import Claim, Languages, Part, Relation
from hybridir.experiments.study import Arm, Published, Study, StudyRecipe

MONO, CROSS, HYBRID = "X-X-mono", "X-Y", "hybrid"
MONO_HALF, CROSS_HALF = "X-X-mono half", "X-Y half"
AVERAGE, AVERAGE_EQUAL = "average", "average equal tokens"
SUM, SUM_DOUBLE = "sum", "sum double tokens"


def arms(recipe: StudyRecipe) -> list[Arm]:
    """At the steps and batch size of the recipe, but for those that say otherwise; En-En where there is English."""
    steps = recipe.train.steps
    half = {"steps": max(1, steps // 2), "warmup_steps": recipe.train.warmup_steps // 2}
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
                about=f"likewise, with probability {alpha}",
                changes=_mix(alpha, cross=1 - alpha),
            )
            for alpha in (0.4, 0.6)
        ),
        Arm(name="X-X", about="every pair in one language, batches mix languages", changes=_mix(mixed=1)),
        Arm(
            name="three-way",
            about="a batch is as in X-X-mono, X-X or X-Y, a third each",
            changes=_mix(mono=1 / 3, mixed=1 / 3, cross=1 - 2 / 3),
        ),
        Arm(
            name="mono then cross",
            about="X-X-mono for the first half of the steps, then X-Y; one decay of the learning rate",
            changes={"sampling": _mix(cross=1)["sampling"] | {"mono_first": steps // 2}},
        ),
        Arm(
            name=SUM,
            about="half of each batch as in X-X-mono, half as in X-Y, the sum of both losses, half the negatives",
            changes=_mix(both=1),
        ),
        Arm(
            name=SUM_DOUBLE,
            about="likewise, with batches twice as large: double tokens",
            changes=_mix(both=1) | {"train": {"batch_size": 2 * recipe.train.batch_size}},
        ),
        Arm(name=MONO_HALF, about="X-X-mono for half the steps", changes=_mix(mono=1) | {"train": half}),
        Arm(name=CROSS_HALF, about="X-Y for half the steps", changes=_mix(cross=1) | {"train": half}),
        Arm(
            name=AVERAGE,
            about="the mean of the weights of X-X-mono and X-Y: double tokens",
            average_of=(MONO, CROSS),
        ),
        Arm(
            name=AVERAGE_EQUAL,
            about="the mean of the weights of the two trained for half the steps",
            average_of=(MONO_HALF, CROSS_HALF),
        ),
    ]
    only = Arm(
        name="En-En",
        about="pairs in English only; all other languages are zero-shot to it",
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
    """A rival is beaten where hybrid is better from the pool of all languages, and worse in neither other setting."""
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
        "From the pool of all languages, hybrid is better than both.",
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
        "Languages never trained on gain too: hybrid is better there than X-X-mono across languages and from the pool, "
        "and than X-Y from the pool.",
        _than(MONO, "crosslingual", languages="zero-shot"),
        _than(MONO, "multilingual", languages="zero-shot"),
        _than(CROSS, "multilingual", languages="zero-shot"),
    ),
    _paper(
        "flat",
        "Monolingual batches with probability 0.4, 0.5 or 0.6: it makes no difference.",
        *(
            Part(arm=arm, baseline=HYBRID, setting=setting, relation="equal")
            for arm in ("hybrid 0.4", "hybrid 0.6")
            for setting in SETTINGS
        ),
    ),
    _beats(AVERAGE, "Hybrid beats the weight average of an X-X-mono and an X-Y model, which takes twice its tokens."),
    _beats(AVERAGE_EQUAL, "Hybrid beats that weight average at equal tokens."),
    _beats("three-way", "Hybrid beats the mix of all three kinds of batch."),
    _beats("mono then cross", "Hybrid beats X-X-mono and then X-Y."),
    _beats(SUM, "Hybrid beats the sum of both losses in every step, at equal tokens."),
    _beats(SUM_DOUBLE, "Hybrid beats the sum of both losses with twice its tokens."),
    _beats("X-X", "Hybrid beats X-X, batches that mix pairs of different languages."),
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
"""By benchmark: encoder, method, mAP in the three settings and rank distance, as arXiv 2408.10536 has them."""

SAMPLING = Study(
    name="sampling",
    title="What the mix of batches does",
    about="A retriever learns by telling the right passage from the others in its batch, so it matters which languages "
    "share a batch. Each arm is a way to mix them; all else is equal, but where an arm says "
    "otherwise.",
    reference=HYBRID,
    arms=arms,
    claims=CLAIMS,
    published=Published(
        note="arXiv 2408.10536: other training data, and all of the benchmark",
        rows={
            benchmark: [dict(zip(("encoder", "method", *SETTINGS, "rank_distance"), row, strict=True)) for row in rows]
            for benchmark, rows in _PUBLISHED.items()
        },
    ),
    sources={"paper": "Claims of the paper", "sceptic": "What a sceptic would ask"},
)
