"""How small can embeddings be? Matryoshka training beside plain truncation, at each dimension, and in fewer bits.

Two arms are trained: hybrid batches, and the same with `loss.matryoshka`. All other arms are these models with fewer
dimensions, or with 8 bits or 1 bit for each number. A Matryoshka loss costs no further forward pass.
"""

from functools import partial
from typing import Any

from hybridir.experiments.claims import Claim, Part, Relation
from hybridir.experiments.study import Arm, Study, StudyRecipe
from hybridir.model.folder import read_layout
from hybridir.model.quantised import binary, int8
from hybridir.model.transforms import truncate
from hybridir.training.losses.matryoshka import Matryoshka

PLAIN, NESTED = "plain", "matryoshka"
METHODS = {PLAIN: "trained as a whole", NESTED: "trained at every dimension"}
PARTS = (2, 4, 8)
"""Embeddings are cut to these parts of their size."""
BITS = {"int8": int8, "binary": binary}


def arms(recipe: StudyRecipe) -> list[Arm]:
    """The two trained arms, and what is made of each."""
    width = _width(recipe)
    sizes = tuple(width // part for part in PARTS)
    nested = {PLAIN: Matryoshka(), NESTED: Matryoshka(dimensions=sizes)}
    hybrid = {"mono": 0.5, "mixed": 0.0, "cross": 0.5, "both": 0.0}
    found = []
    for name, about in METHODS.items():
        changes: dict[str, dict[str, Any]] = {"sampling": hybrid, "loss": {"matryoshka": nested[name]}}
        found.append(Arm(name=name, about=f"all {width} numbers, {about}", changes=changes, x=width))
        found += [
            Arm(
                name=f"{name} 1/{part}",
                about=f"the first {size} numbers, {about}",
                made_of=(name,),
                make=partial(truncate, dimensions=size),
                x=size,
            )
            for part, size in zip(PARTS, sizes, strict=True)
        ]
        found += [
            Arm(name=f"{name} {bits}", about=f"all numbers as {bits}, {about}", made_of=(name,), change=how)
            for bits, how in BITS.items()
        ]
    return found


def _width(recipe: StudyRecipe) -> int:
    """The size of embeddings, before a dense layer."""
    encoder = recipe.encoder
    return read_layout(encoder.name, encoder.revision).config.hidden_size if encoder.name else encoder.hidden_size


def _part(arm: str, baseline: str, relation: Relation, setting: str = "multilingual") -> Part:
    return Part(arm=arm, baseline=baseline, setting=setting, relation=relation)


CLAIMS = (
    *(
        Claim(
            id=f"cut to 1/{part}",
            text=f"Cut to 1/{part} of their size, embeddings are better if they were trained for it.",
            source="question",
            parts=(_part(f"{NESTED} 1/{part}", f"{PLAIN} 1/{part}", "better"),),
        )
        for part in PARTS
    ),
    Claim(
        id="whole",
        text="Embeddings of full size are not worse for having been trained for cutting.",
        source="question",
        parts=(_part(NESTED, PLAIN, "not worse"), _part(NESTED, PLAIN, "not worse", "monolingual")),
    ),
    Claim(
        id="int8",
        text="At a quarter of the memory, 8-bit numbers lose less than a quarter of the dimensions does.",
        source="sceptic",
        parts=(_part(f"{PLAIN} int8", f"{NESTED} 1/4", "better"),),
    ),
    Claim(
        id="binary",
        text="An eighth of the dimensions is better than signs alone, which take a quarter of its memory.",
        source="sceptic",
        parts=(_part(f"{NESTED} 1/8", f"{PLAIN} binary", "better"),),
    ),
)

DIMENSIONS = Study(
    name="dimensions",
    title="How small embeddings can be",
    about="Search needs memory for every number of every embedding. An embedding can be cut, if it was trained for "
    "this, or its numbers can be stored in fewer bits.",
    reference=NESTED,
    arms=arms,
    claims=CLAIMS,
    x_name="numbers of an embedding",
    sources={"question": "Does training for it help?", "sceptic": "What a sceptic would ask"},
)
