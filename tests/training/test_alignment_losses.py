"""The terms that align languages, and those over the whole batch, each against its formula over Python numbers."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hybridir.training.losses import LOSSES
from hybridir.training.losses.distill import Distill
from hybridir.training.losses.embedded import EmbeddedBatch
from hybridir.training.losses.erase import Erase, squared_covariance
from hybridir.training.losses.info_nce import InfoNCE
from hybridir.training.losses.matryoshka import Matryoshka
from hybridir.training.losses.reverse import Reverse
from hybridir.training.losses.score_kl import ScoreKL
from hybridir.training.losses.symmetric import Symmetric
from hybridir.training.losses.translation import Translation
from hybridir.training.objective import LossConfig

ITEMS, T = 4, 0.3
THERE = {
    "query_translation": [[True, False], [True, True], [False, False], [False, True]],
    "passage_translation": [[True, True], [True, False], [False, False], [False, True]],
}
POOLS = [None, torch.tensor([0, 0, 1, 1])]


def unit(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return nn.functional.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


def made(pool: Tensor | None = None, first: int = 0, own: int = ITEMS) -> EmbeddedBatch:
    """4 items with every view; the hard negative of the first item is the passage of the second."""
    groups = {name: torch.arange(ITEMS)[:, None] for name in ("query", "positive")}
    groups["negative"] = torch.tensor([[1], [9], [0], [8]])
    for name, there in THERE.items():
        groups[name] = torch.arange(ITEMS)[:, None].expand(-1, 2).masked_fill(~torch.tensor(there), -1)
    generator = torch.Generator().manual_seed(0)
    views = {
        name: unit(*group.shape, 8, seed=n) * (group >= 0)[..., None] for n, (name, group) in enumerate(groups.items())
    }
    return EmbeddedBatch(
        query_bD=views["query"][first : first + own, 0],
        views=views,
        there={name: group >= 0 for name, group in groups.items()},
        first=first,
        groups=groups,
        languages={
            name: torch.randint(3, group.shape, generator=generator).masked_fill(group < 0, -1)
            for name, group in groups.items()
        },
        pool_I=pool,
        temperature=torch.tensor(T, dtype=torch.float64),
        teacher={"query": unit(ITEMS, 8, seed=20), "positive": unit(ITEMS, 8, seed=21)},
    )


def dot(batch: EmbeddedBatch, one: tuple[str, int, int], other: tuple[str, int, int]) -> float:
    return float(batch.views[one[0]][one[1], one[2]] @ batch.views[other[0]][other[1], other[2]])


def together(batch: EmbeddedBatch, item: int, other: int) -> bool:
    return batch.pool_I is None or bool(batch.pool_I[item] == batch.pool_I[other])


def entropy(positive: float, negatives: list[float]) -> float:
    """-log softmax of the positive among cosines at the temperature."""
    return math.log(sum(math.exp(one / T) for one in [positive, *negatives])) - positive / T


def kl(first: list[float], second: list[float]) -> float:
    """Of the softmax of two lists of cosines."""
    p, q = (np.exp(np.array(one) / T) / np.exp(np.array(one) / T).sum() for one in (first, second))
    return float((p * np.log(p / q)).sum())


def averaged(view: str, value: Callable[[int, int], float]) -> list[float]:
    """The mean over an item's texts of a view, 0 without; times 4 / 3, since one of the four items has none."""
    found = []
    for item in range(ITEMS):
        values = [value(item, n) for n in range(2) if THERE[view][item][n]]
        found.append(sum(values) / len(values) * 4 / 3 if values else 0.0)
    return found


def translation(batch: EmbeddedBatch) -> list[float]:
    def value(item: int, n: int) -> float:
        view = "passage_translation"
        pair = dot(batch, ("positive", item, 0), (view, item, n)) - 0.2
        others = [j for j in range(ITEMS) if j != item and together(batch, item, j)]
        there = [dot(batch, ("positive", item, 0), (view, j, n)) for j in others if THERE[view][j][n]]
        back = [dot(batch, (view, item, n), ("positive", j, 0)) for j in others]
        return (entropy(pair, there) + entropy(pair, back)) / 2

    return averaged("passage_translation", value)


def reverse(batch: EmbeddedBatch, weight: float) -> list[float]:
    def value(item: int, n: int) -> float:
        view = "query_translation"
        others = [j for j in range(ITEMS) if j != item and together(batch, item, j) and THERE[view][j][n]]
        ranked = [dot(batch, ("positive", item, 0), (view, j, n)) for j in (item, *others)]
        forward = [dot(batch, ("query", item, 0), ("positive", j, 0)) for j in (item, *others)]
        return entropy(ranked[0], ranked[1:]) + weight * kl(forward, ranked)

    return averaged("query_translation", value)


def score_kl(batch: EmbeddedBatch) -> list[float]:
    def value(item: int, n: int) -> float:
        places = [("positive", j, 0) for j in range(ITEMS) if together(batch, item, j)]
        places += [
            ("negative", j, 0)
            for j in range(ITEMS)
            if together(batch, item, j) and int(batch.groups["negative"][j, 0]) != item
        ]
        return kl(*([dot(batch, text, place) for place in places] for text in (("query", item, 0), (view, item, n))))

    view = "query_translation"
    return averaged(view, value)


def symmetric(batch: EmbeddedBatch) -> list[float]:
    return [
        entropy(
            dot(batch, ("positive", item, 0), ("query", item, 0)),
            [
                dot(batch, ("positive", item, 0), ("query", j, 0))
                for j in range(ITEMS)
                if j != item and together(batch, item, j)
            ],
        )
        for item in range(ITEMS)
    ]


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize(
    ("loss", "formula"),
    [
        (Translation(margin=0.2), translation),
        (Reverse(kl=0), lambda batch: reverse(batch, 0)),
        (Reverse(kl=0.7), lambda batch: reverse(batch, 0.7)),
        (ScoreKL(), score_kl),
        (Symmetric(), symmetric),
    ],
)
def test_value_by_formula(
    loss: Callable[..., Tensor], formula: Callable[..., list[float]], pool: Tensor | None
) -> None:
    expected = formula(made(pool))
    assert loss(made(pool)).tolist() == pytest.approx(expected, rel=1e-10)
    assert loss(made(pool, first=2, own=2)).tolist() == pytest.approx(expected[2:], rel=1e-10)


def test_an_item_without_translations_has_no_gradient() -> None:
    for loss in (Translation(), Reverse(), ScoreKL()):
        batch = made()
        views = {name: view.clone().requires_grad_() for name, view in batch.views.items()}
        batch = replace(batch, views=views, query_bD=views["query"][:, 0])
        loss(batch).sum().backward()
        gradient = [view.grad for view in views.values() if view.grad is not None]
        assert gradient
        assert all(one.isfinite().all() for one in gradient)
        for name in ("query_translation", "passage_translation"):
            if views[name].grad is not None:
                assert views[name].grad[~batch.there[name]].abs().max() == 0


def test_the_teacher_of_a_divergence_gets_no_gradient() -> None:
    """The queries, in both terms."""
    for loss in (Reverse(kl=1), ScoreKL()):
        batch = made()
        query_bD = batch.query_bD.clone().requires_grad_()
        views = {name: view.clone().requires_grad_() for name, view in batch.views.items()}
        loss(replace(batch, query_bD=query_bD, views=views)).sum().backward()
        assert query_bD.grad is None


def test_the_ramp_rises_from_zero() -> None:
    whole = ScoreKL()(made())
    for step, share in ((0, 0.0), (5, 0.5), (10, 1.0), (99, 1.0)):
        torch.testing.assert_close(ScoreKL(ramp=10)(replace(made(), step=step)), share * whole, rtol=1e-12, atol=0)


# All directions of InfoNCE


@pytest.mark.parametrize("negatives", [0, 1])
def test_directions_equal_multiple_negatives_ranking_loss(negatives: int) -> None:
    """Both sides in one softmax, and the symmetric loss as the mean of two."""
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    batch = made()
    groups = {name: group for name, group in batch.groups.items() if name in ("query", "positive")}
    groups["negative"] = torch.tensor([[10], [11], [12], [13]])[:, :negatives]
    views = {name: unit(*group.shape, 8, seed=n) for n, (name, group) in enumerate(groups.items())}
    there = {name: group >= 0 for name, group in groups.items()}
    batch = replace(batch, query_bD=views["query"][:, 0], views=views, there=there, groups=groups)
    columns = [view[:, n] for view in views.values() for n in range(view.shape[1])]

    def reference(**options: object) -> Tensor:
        loss = MultipleNegativesRankingLoss(model=nn.Identity(), scale=1 / T, **options)
        return loss.compute_loss_from_embeddings(columns, labels=torch.empty(0))

    if not negatives:  # its own hard negative is a negative of the passage here, and not there
        same_side = reference(directions=("query_to_doc", "query_to_query", "doc_to_doc"))
        ours = InfoNCE(directions=("query_to_query", "passage_to_passage"))(batch)
        torch.testing.assert_close(ours.mean(), same_side, rtol=1e-9, atol=0)
    forward, back = InfoNCE()(batch), Symmetric()(batch)
    expected = (forward.exp() + back.exp() - 1).log()  # the positive, 1 of each sum, is there once
    torch.testing.assert_close(InfoNCE(directions=("passage_to_query",))(batch), expected, rtol=1e-9, atol=0)
    both = (InfoNCE()(batch).mean() + Symmetric()(batch).mean()) / 2
    expected = reference(directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction")
    torch.testing.assert_close(both, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize(("kind", "limit"), [("absolute", 0.5 + 0.1), ("relative", 0.5 + 0.5 * 0.1)])
def test_negatives_far_above_the_positive_are_left_out(kind: str, limit: float) -> None:
    """The positive has the cosine 0.5; of three others one lies above the limit, one on this side, one far below."""
    cosines = [0.5, limit + 0.01, limit - 0.01, -0.2]
    query = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    passages = torch.tensor([[x, math.sqrt(1 - x * x)] for x in cosines], dtype=torch.float64)
    batch = made()
    batch = replace(
        batch,
        query_bD=query,
        views=batch.views | {"positive": passages[:, None], "negative": torch.empty(4, 0, 2, dtype=torch.float64)},
        groups=batch.groups | {"negative": torch.empty(4, 0, dtype=torch.int64)},
        there=batch.there | {"negative": torch.empty(4, 0, dtype=torch.bool)},
    )
    found = InfoNCE(false_negatives=kind, margin=0.1)(batch)
    assert found.tolist() == pytest.approx([entropy(0.5, cosines[2:])], rel=1e-10)
    assert InfoNCE()(batch).tolist() == pytest.approx([entropy(0.5, cosines[1:])], rel=1e-10)


# The language in embeddings


def test_covariance_equals_numpys() -> None:
    embedding, language = unit(12, 5, seed=1), torch.arange(12) % 3
    joined = np.concatenate([embedding.numpy(), np.eye(3)[language.numpy()]], axis=1)
    expected = (np.cov(joined, rowvar=False, bias=True)[:5, 5:] ** 2).sum()
    assert float(squared_covariance(embedding, language)) == pytest.approx(expected, rel=1e-10)


def test_erase_by_hand() -> None:
    """Queries (1, 0) in one language and (-1, 0) in the other: covariances +-1/2, squares 1/4; the same passages: 0."""
    x = torch.tensor([1.0, 0.0], dtype=torch.float64)
    batch = made()
    batch = replace(
        batch,
        query_bD=torch.stack([x, -x]),
        views={"query": torch.stack([x, -x])[:, None], "positive": torch.stack([x, x])[:, None]},
        languages={"query": torch.tensor([[0], [1]]), "positive": torch.tensor([[0], [1]])},
    )
    assert Erase()(batch).tolist() == [0.5, 0.5]
    one = replace(batch, languages=dict.fromkeys(("query", "positive"), torch.zeros(2, 1, dtype=torch.int64)))
    assert Erase()(one).tolist() == [0.0, 0.0]


# The teacher


def test_distilled_embeddings_by_formula() -> None:
    batch = made()
    expected = []
    for item in range(ITEMS):
        total = 0.0
        for side, view in (("query", "query_translation"), ("positive", "passage_translation")):
            taught = batch.teacher[side][item]
            total += float((taught - batch.views[side][item, 0]).square().sum())
            apart = [
                float((taught - batch.views[view][item, n]).square().sum()) for n in range(2) if THERE[view][item][n]
            ]
            total += sum(apart) / len(apart) if apart else 0.0
        expected.append(total)
    assert Distill(teacher="x")(batch).tolist() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("match", ["scores", "margins"])
def test_distilled_scores_by_formula(match: str, pool: Tensor | None) -> None:
    """An item that the teacher does not know has 0, and is no candidate of the others, which weigh 4 / 3."""
    batch = made(pool)
    batch.teacher["query"][1] = 0
    expected = []
    for item in range(ITEMS):
        known = [item, *(j for j in (0, 2, 3) if j != item and together(batch, item, j))]
        taught = [float(batch.teacher["query"][item] @ batch.teacher["positive"][j]) for j in known]
        learnt = [dot(batch, ("query", item, 0), ("positive", j, 0)) for j in known]
        margins = [((learnt[0] - a) - (taught[0] - b)) ** 2 for a, b in zip(learnt[1:], taught[1:], strict=True)]
        value = kl(taught, learnt) if match == "scores" else sum(margins) / max(1, len(margins))
        expected.append(0.0 if item == 1 else value * 4 / 3)
    assert Distill(teacher="x", match=match)(batch).tolist() == pytest.approx(expected, rel=1e-10)


def test_a_teacher_of_other_width() -> None:
    batch = made()
    batch = replace(batch, teacher={name: text[:, :6] for name, text in batch.teacher.items()})
    with pytest.raises(ValueError, match=r"have 6 numbers, those of the encoder 8: set loss\.distill\.match to scores"):
        Distill(weight=1, teacher="x")(batch)
    assert Distill(weight=1, teacher="x", match="scores")(batch).isfinite().all()


# Matryoshka


def test_matryoshka_is_the_weighted_sum_over_cut_embeddings() -> None:
    batch, nested = made(), Matryoshka(dimensions=(4, 2), weights=(0.5, 0.25))
    for loss in (InfoNCE(), Translation(), Reverse(), Erase()):
        expected = loss(batch)
        for dimensions, weight in ((4, 0.5), (2, 0.25)):
            short = {
                name: torch.nan_to_num(view[..., :dimensions] / view[..., :dimensions].norm(dim=-1, keepdim=True))
                for name, view in batch.views.items()
            }
            expected = expected + weight * loss(replace(batch, views=short, query_bD=short["query"][:, 0]))
        torch.testing.assert_close(nested(loss, batch), expected, rtol=1e-10, atol=0)
        assert torch.equal(Matryoshka()(loss, batch), loss(batch))


def test_matryoshka_equals_sentence_transformers() -> None:
    """Its decorator cuts (and normalises where the cosine is taken) and sums."""
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    batch = made()
    query, passage = batch.query_bD, batch.views["positive"][:, 0]
    reference = MultipleNegativesRankingLoss(model=nn.Identity(), scale=1 / T)
    expected = sum(
        reference.compute_loss_from_embeddings([query[:, :d], passage[:, :d]], labels=torch.empty(0)) for d in (8, 4)
    )
    alone = replace(
        batch,
        views=batch.views | {"negative": torch.empty(4, 0, 8, dtype=torch.float64)},
        groups=batch.groups | {"negative": torch.empty(4, 0, dtype=torch.int64)},
        there=batch.there | {"negative": torch.empty(4, 0, dtype=torch.bool)},
    )
    torch.testing.assert_close(Matryoshka(dimensions=(4,))(InfoNCE(), alone).mean(), expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("made_wrong", "message"),
    [
        (lambda: Matryoshka(dimensions=(4, 0)), r"loss\.matryoshka\.dimensions is \(4, 0\): they must be at least 1"),
        (lambda: Matryoshka(dimensions=(4, 4)), "each named once"),
        (lambda: Matryoshka(dimensions=(4, 2), weights=(1.0,)), r"weights is \(1\.0,\): give one above 0 for each of"),
        (lambda: Matryoshka(dimensions=(8, 2)).check(8), r"dimensions has 8, but embeddings have 8 numbers"),
        (lambda: Distill(weight=1), r"loss\.distill\.teacher is empty: name a model folder"),
        (lambda: Reverse(kl=-1), r"loss\.reverse\.kl is -1: it must be at least 0"),
        (lambda: ScoreKL(ramp=-1), r"loss\.score_kl\.ramp is -1: it must be at least 0"),
        (
            lambda: LossConfig(distill=Distill(weight=1, teacher="x"), matryoshka=Matryoshka(dimensions=(4,))),
            r"loss\.distill\.match is embeddings, which cannot be cut",
        ),
    ],
)
def test_what_losses_cannot_be(made_wrong: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made_wrong()


def test_every_loss_is_tested_here_or_beside() -> None:
    assert set(LOSSES) == {
        *("info_nce", "multilingual", "translation", "symmetric", "reverse", "score_kl", "distill", "erase"),
        "self_teaching",
    }
