"""How often should a batch be monolingual? Hybrid batches from alpha = 0 (X-Y) to alpha = 1 (X-X-mono).

The grid is that of the ablation over alpha in arXiv 2408.10536.
"""

from hybridir.evaluation.settings import SETTINGS
from hybridir.experiments.claims import Claim, Part
from hybridir.experiments.study import Arm, Study, StudyRecipe

GRID = tuple(n / 10 for n in range(11))


def arms(recipe: StudyRecipe) -> list[Arm]:
    """One arm for each alpha, named after it."""
    return [
        Arm(
            name=f"{alpha:g}",
            about=f"a batch is monolingual with probability {alpha:g}, else cross-lingual",
            changes={"sampling": {"mono": alpha, "mixed": 0.0, "cross": 1 - alpha, "both": 0.0}},
            x=alpha,
        )
        for alpha in GRID
    ]


CLAIMS = (
    Claim(
        id="flat",
        text="Between 0.4 and 0.6 alpha makes no difference.",
        source="paper",
        parts=tuple(
            Part(arm=arm, baseline="0.5", setting=setting, relation="equal")
            for arm in ("0.4", "0.6")
            for setting in SETTINGS
        ),
    ),
    *(
        Claim(
            id=f"half-{end}",
            text=f"In multilingual retrieval, alpha 0.5 is better than {name} alone.",
            source="paper",
            parts=(Part(arm="0.5", baseline=end, setting="multilingual", relation="better"),),
        )
        for end, name in (("0", "cross-lingual batches"), ("1", "monolingual batches"))
    ),
)

ALPHA = Study(
    name="alpha",
    title="How often a batch should be monolingual",
    about="Each arm trains on monolingual batches with probability alpha and on cross-lingual ones otherwise.",
    reference="0.5",
    arms=arms,
    claims=CLAIMS,
    x_name="alpha, the share of monolingual batches",
    sources={"paper": "Claims of the paper"},
)
