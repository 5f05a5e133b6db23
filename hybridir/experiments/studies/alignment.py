"""What does aligning languages do for those that have translations but no questions of their own?

Every arm trains on hybrid batches of the trained languages. All other languages of the data are called low-resource:
only one arm draws pairs in them; the arms that align languages see their texts, as translations. All arms stop at the
same number of tokens if the recipe gives `train.tokens`, so an arm with translations has fewer steps.

The primary endpoint is fixed here: multilingual mAP of the queries in the low-resource languages.
"""

from typing import Any

from hybridir.batches.sampling import LowResource, Translations
from hybridir.experiments.claims import Claim, Part
from hybridir.experiments.study import Arm, Study, StudyRecipe
from hybridir.model.by_language import lir, shift
from hybridir.training.losses.erase import Erase
from hybridir.training.losses.info_nce import InfoNCE
from hybridir.training.losses.multilingual import Multilingual
from hybridir.training.losses.reverse import Reverse
from hybridir.training.losses.translation import Translation

HYBRID, AS_PAIRS, REAL = "hybrid", "bitext as pairs", "real pairs"
OBJECTIVES = {
    "translation": "translation ranking with a margin, between passages and their translations",
    "multilingual": "the passage and a translation of it are both positives of the query, each with half the weight",
    "reverse": "the passage ranks translations of its query, and their scores are drawn to those of the query",
    "erase": "the covariance of embeddings with the language of their texts is reduced",
}
"""The arms that align languages, each with what it adds to the loss."""
AFTERWARDS = {
    "SHIFT": ("hybrid, with the mean of each language subtracted from its embeddings", shift),
    "LIR": ("hybrid, with the main direction of each language projected out of its embeddings", lir),
}
"""The arms that change the embeddings of a finished model."""
SHARE = 0.125
"""In the arm `real pairs`, the share of questions that have pairs in the low-resource languages."""


def arms(recipe: StudyRecipe) -> list[Arm]:
    """The arms; `ValueError` if the recipe does not say which languages have pairs and which only have texts."""
    trained, low = recipe.sampling.languages or (), low_resource(recipe)
    hybrid = {"mono": 0.5, "mixed": 0.0, "cross": 0.5, "both": 0.0}

    def arm(name: str, about: str, loss: dict[str, Any], **views: int) -> Arm:
        views_of = Translations(languages=(*trained, *low), **views)
        return Arm(name=name, about=about, changes={"sampling": hybrid | {"translations": views_of}, "loss": loss})

    losses: dict[str, dict[str, Any]] = {
        "translation": {"translation": Translation(weight=1)},
        "multilingual": {"info_nce": InfoNCE(weight=0), "multilingual": Multilingual(weight=1, share=0.5)},
        "reverse": {"reverse": Reverse(weight=0.4)},
        "erase": {"erase": Erase(weight=10)},
    }
    return [
        Arm(name=HYBRID, about="pairs of the trained languages alone", changes={"sampling": hybrid}),
        *(
            arm(name, about, losses[name], **{"query" if name == "reverse" else "passage": 1})
            for name, about in OBJECTIVES.items()
        ),
        arm(
            AS_PAIRS,
            "the bitext of `translation` as plain pairs of passages: InfoNCE both ways, without a margin",
            {"translation": Translation(weight=1, margin=0)},
            passage=1,
        ),
        *(
            Arm(name=name, about=f"{about}, without training: fitted on training texts", made_of=(HYBRID,), change=how)
            for name, (about, how) in AFTERWARDS.items()
        ),
        Arm(
            name=REAL,
            about=f"no alignment, but pairs in the low-resource languages for {SHARE:.1%} of the questions",
            changes={
                "sampling": hybrid
                | {"languages": (*trained, *low), "low_resource": LowResource(languages=low, pairs=SHARE)}
            },
        ),
    ]


def low_resource(recipe: StudyRecipe) -> tuple[str, ...]:
    """The languages of the data that are not drawn as pairs."""
    trained, every = recipe.sampling.languages, recipe.data.languages
    low = tuple(code for code in every or () if code not in (trained or ()))
    if not trained or not low:
        raise ValueError(
            f"data.languages is {every} and sampling.languages {trained}: name in sampling.languages those with pairs, "
            "and in data.languages these and the low-resource languages"
        )
    return low


def primary(arm: str, baseline: str, relation: Any = "better") -> Part:
    """A difference in the primary endpoint."""
    return Part(arm=arm, baseline=baseline, setting="multilingual", relation=relation, languages="zero-shot")


CLAIMS = (
    *(
        Claim(
            id=f"{name} helps",
            text=f"For low-resource languages, the objective `{name}` beats hybrid at equal tokens.",
            source="objectives",
            parts=(primary(name, HYBRID),),
        )
        for name in OBJECTIVES
    ),
    *(
        Claim(
            id=f"{name} harms nothing",
            text=f"In trained languages, `{name}` is not worse than hybrid, within and across languages.",
            source="guard",
            parts=tuple(
                Part(arm=name, baseline=HYBRID, setting=setting, relation="not worse", languages="trained")
                for setting in ("monolingual", "multilingual")
            ),
        )
        for name in OBJECTIVES
    ),
    Claim(
        id="pairs",
        text="The same bitext as plain pairs does as well as the objective `translation`.",
        source="sceptic",
        parts=(primary(AS_PAIRS, "translation", "not worse"),),
    ),
    *(
        Claim(
            id=name,
            text=f"{name}, which trains nothing, does as well as every objective.",
            source="sceptic",
            parts=tuple(primary(name, objective, "not worse") for objective in OBJECTIVES),
        )
        for name in AFTERWARDS
    ),
    Claim(
        id="real",
        text=f"Pairs in the low-resource languages for {SHARE:.1%} of the questions beat every objective.",
        source="sceptic",
        parts=tuple(primary(REAL, name) for name in OBJECTIVES),
    ),
)

ALIGNMENT = Study(
    name="alignment",
    title="What aligning languages does for languages without questions",
    about="Some languages have translated texts, but no questions to train on. Each objective aligns languages in "
    "another way beside the same hybrid batches. What counts is multilingual mAP of the queries in these languages, "
    "which the page calls zero-shot.",
    reference=HYBRID,
    arms=arms,
    claims=CLAIMS,
    sample="study_alignment.yaml",
    family="objectives",
    sources={
        "objectives": "Does an objective help?",
        "guard": "What does it cost?",
        "sceptic": "What a sceptic would ask",
    },
)
