"""The loss against sentence-transformers, against its formula, and its mask."""

import math
import re
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor, nn

from hybridir.batches.sampling import Noise, Sampling, Translations
from hybridir.training.losses import LOSSES
from hybridir.training.losses.embedded import EmbeddedBatch
from hybridir.training.losses.info_nce import InfoNCE, info_nce
from hybridir.training.losses.multilingual import Multilingual
from hybridir.training.losses.self_teaching import SelfTeaching
from hybridir.training.objective import LossConfig


def unit(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Random vectors of length 1."""
    generator = torch.Generator().manual_seed(seed)
    return nn.functional.normalize(torch.randn(*shape, generator=generator, dtype=dtype), dim=-1)


def distinct(count: int) -> Tensor:
    """Passage groups that mask nothing."""
    return torch.arange(count) + 100


@pytest.mark.parametrize("temperature", [0.01, 0.05, 1.0])
@pytest.mark.parametrize("negatives", [0, 1, 3])
def test_equals_multiple_negatives_ranking_loss(temperature: float, negatives: int) -> None:
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    size, width = 6, 16
    query, passages = unit(size, width, seed=1), unit(1 + negatives, size, width, seed=2)
    reference = MultipleNegativesRankingLoss(model=nn.Identity(), scale=1 / temperature)
    expected = reference.compute_loss_from_embeddings([query, *passages], labels=torch.empty(0))
    loss = info_nce(
        query,
        passages.flatten(0, 1),
        positive_Q=torch.arange(size),
        passage_group_P=distinct(size * (1 + negatives)),
        temperature=temperature,
    )
    assert loss.shape == (size,)
    torch.testing.assert_close(loss.mean(), expected, rtol=1e-9, atol=1e-12)


def test_value_by_hand() -> None:
    """Scores 1 and 0 at temperature 1: log(1 + 1/e)."""
    identity = torch.eye(2, dtype=torch.float64)
    loss = info_nce(
        identity, identity, positive_Q=torch.tensor([0, 1]), passage_group_P=distinct(2), temperature=torch.tensor(1.0)
    )
    assert loss.tolist() == pytest.approx([math.log1p(math.exp(-1))] * 2, rel=1e-12)


def test_pools_are_losses_of_their_own() -> None:
    """Two queries and their passages in each of two pools: as if each pool were a batch alone."""
    query, passage = unit(4, 8, seed=5), unit(4, 8, seed=6)

    def loss(rows: slice, pool: Tensor | None) -> Tensor:
        size = len(query[rows])
        return info_nce(
            query[rows],
            passage[rows],
            positive_Q=torch.arange(size),
            passage_group_P=distinct(size),
            temperature=0.1,
            pool_P=pool,
        )

    apart = torch.cat([loss(slice(0, 2), None), loss(slice(2, 4), None)])
    torch.testing.assert_close(loss(slice(0, 4), torch.tensor([0, 0, 1, 1])), apart)
    assert not torch.allclose(loss(slice(0, 4), None), apart)


def test_passages_of_the_positives_group_are_no_negatives() -> None:
    """Query 0 has the passage 0; passage 3 is the same in another language, so its column is as if it were gone."""
    query, passage = unit(1, 8, seed=3), unit(5, 8, seed=4)
    masked = info_nce(
        query,
        passage,
        positive_Q=torch.tensor([0]),
        passage_group_P=torch.tensor([7, 1, 2, 7, 4]),
        temperature=1.0,
    )
    kept = [0, 1, 2, 4]
    removed = info_nce(query, passage[kept], positive_Q=torch.tensor([0]), passage_group_P=distinct(4), temperature=1.0)
    unmasked = info_nce(query, passage, positive_Q=torch.tensor([0]), passage_group_P=distinct(5), temperature=1.0)
    torch.testing.assert_close(masked, removed, rtol=1e-12, atol=0)
    assert (masked < unmasked - 1e-4).all()


def test_masked_passages_get_no_gradient_from_that_query() -> None:
    query, passage = unit(1, 8, seed=3), unit(3, 8, seed=4).requires_grad_()
    info_nce(
        query, passage, positive_Q=torch.tensor([0]), passage_group_P=torch.tensor([7, 7, 1]), temperature=0.05
    ).sum().backward()
    assert passage.grad is not None
    assert passage.grad[1].abs().sum() == 0
    assert passage.grad[0].abs().sum() > 0
    assert passage.grad[2].abs().sum() > 0


def test_the_positive_is_never_masked() -> None:
    """All passages are one group: only the positive is left, wherever it stands, and the loss is 0."""
    loss = info_nce(
        unit(2, 8, seed=5),
        unit(4, 8, seed=6),
        positive_Q=torch.tensor([2, 3]),
        passage_group_P=torch.zeros(4, dtype=torch.int64),
        temperature=0.05,
    )
    assert loss.tolist() == [0.0, 0.0]


def test_positive_may_stand_anywhere() -> None:
    """As on rank 1 of 2: the queries' passages are the last ones."""
    query, passage = unit(2, 8, seed=7), unit(4, 8, seed=8)
    loss = info_nce(query, passage, positive_Q=torch.tensor([2, 3]), passage_group_P=distinct(4), temperature=0.1)
    scores = query @ passage.T / 0.1
    expected = scores.logsumexp(dim=1) - torch.stack([scores[0, 2], scores[1, 3]])
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-12)


def test_float32_at_least() -> None:
    """At temperature 0.02 scores in bfloat16 are off by about 0.1: autocast must not reach the loss."""
    query, passage = (unit(8, 64, seed=seed, dtype=torch.float32) for seed in (9, 10))
    arguments = {"positive_Q": torch.arange(8), "passage_group_P": distinct(8), "temperature": 0.02}
    expected = info_nce(query, passage, **arguments)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (query @ passage.T).dtype == torch.bfloat16, "autocast is on"
        loss = info_nce(query, passage, **arguments)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)
    half = query.bfloat16(), passage.bfloat16()
    assert torch.equal(info_nce(*half, **arguments), info_nce(half[0].float(), half[1].float(), **arguments))
    assert info_nce(query.double(), passage.double(), **arguments).dtype == torch.float64


def test_gradients_equal_those_of_the_formula() -> None:
    """By the cosine s: (softmax - one hot) / t; by the temperature t: -s (softmax - one hot) / t^2."""
    query, passage = unit(4, 8, seed=11).requires_grad_(), unit(6, 8, seed=12).requires_grad_()
    temperature = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    info_nce(
        query, passage, positive_Q=torch.arange(4), passage_group_P=distinct(6), temperature=temperature
    ).mean().backward()
    with torch.no_grad():
        cosine = query @ passage.T
        by_score = (torch.softmax(cosine / 0.1, dim=1) - torch.eye(4, 6, dtype=torch.float64)) / 4
        torch.testing.assert_close(query.grad, by_score @ passage / 0.1, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(passage.grad, by_score.T @ query / 0.1, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(temperature.grad, -(by_score * cosine).sum() / 0.1**2, rtol=1e-9, atol=1e-12)


# The multilingual loss


def embedded(
    there: Tensor, pool: Tensor | None = None, first: int = 0, own: int = 4, negatives: int = 1
) -> EmbeddedBatch:
    """4 items with hard negatives and two places for translations, of which `there` [4, 2] are filled."""
    groups = {
        "positive": torch.tensor([[0], [1], [2], [3]]),
        "negative": torch.tensor([[1], [9], [0], [8]])[:, :negatives],
        "passage_translation": torch.arange(4)[:, None].expand(4, 2).masked_fill(~there, -1),
    }
    return EmbeddedBatch(
        query_bD=unit(4, 8, seed=7)[first : first + own],
        views={
            name: unit(*group.shape, 8, seed=8 + n) * (group >= 0)[..., None]
            for n, (name, group) in enumerate(groups.items())
        },
        there={name: group >= 0 for name, group in groups.items()},
        first=first,
        groups=groups,
        languages={},
        pool_I=pool,
        temperature=torch.tensor(0.3, dtype=torch.float64),
    )


SOME = torch.tensor([[True, True], [True, False], [False, False], [False, True]])


def by_formula(batch: EmbeddedBatch, item: int, share: float | None) -> float:
    """Term by term over Python numbers."""

    def score(name: str, other: int, n: int) -> float:
        return math.exp(float(batch.query_bD[item - batch.first] @ batch.views[name][other, n]) / 0.3)

    negatives = sum(
        score(name, other, n)
        for name, group in batch.groups.items()
        for other in range(4)
        for n in range(group.shape[1])
        if batch.there[name][other, n]
        and group[other, n] != item
        and (batch.pool_I is None or batch.pool_I[other] == batch.pool_I[item])
    )
    own = score("positive", item, 0)
    others = [score("passage_translation", item, n) for n in range(2) if batch.there["passage_translation"][item, n]]
    weight = (share if others else 0.0) if share is not None else len(others) / (1 + len(others))
    each = [-math.log(positive / (positive + negatives)) for positive in (own, *others)]
    return (1 - weight) * each[0] + (weight * sum(each[1:]) / len(others) if others else 0.0)


@pytest.mark.parametrize("share", [None, 0.3])
@pytest.mark.parametrize("pool", [None, torch.tensor([0, 0, 1, 1])])
@pytest.mark.parametrize("negatives", [0, 1])
def test_multilingual_by_its_formula(share: float | None, pool: Tensor | None, negatives: int) -> None:
    batch = embedded(SOME, pool, negatives=negatives)
    expected = [by_formula(batch, item, share) for item in range(4)]
    assert Multilingual(weight=1, share=share)(batch).tolist() == pytest.approx(expected, rel=1e-10)
    second = embedded(SOME, pool, first=2, own=2, negatives=negatives)
    assert Multilingual(weight=1, share=share)(second).tolist() == pytest.approx(expected[2:], rel=1e-10)


def test_multilingual_by_hand() -> None:
    """Two items, orthogonal; the translation of the first is its query, so scores are 1, 0 (its own), 0 (the other)."""
    x, y = torch.eye(2, dtype=torch.float64)
    groups = {"positive": torch.tensor([[0], [1]]), "negative": torch.empty(2, 0, dtype=torch.long)}
    groups["passage_translation"] = torch.tensor([[0], [-1]])
    batch = EmbeddedBatch(
        query_bD=torch.stack([x, x]),
        views={
            "positive": torch.stack([y, y])[:, None],
            "negative": torch.empty(2, 0, 2, dtype=torch.float64),
            "passage_translation": torch.stack([x, 0 * x])[:, None],
        },
        there={name: group >= 0 for name, group in groups.items()},
        first=0,
        groups=groups,
        languages={},
        pool_I=None,
        temperature=torch.tensor(1.0, dtype=torch.float64),
    )
    # first: the mean of log(1 + e^0 / e^0) and log(1 + e^0 / e^1); second: log(1 + (e^0 + e^1) / e^0)
    expected = [(math.log(2) + math.log1p(math.exp(-1))) / 2, math.log(2 + math.e)]
    assert Multilingual(weight=1)(batch).tolist() == pytest.approx(expected, rel=1e-12)


def test_without_translations_it_is_info_nce() -> None:
    batch = embedded(torch.zeros(4, 2, dtype=torch.bool))
    torch.testing.assert_close(Multilingual(weight=1)(batch), InfoNCE()(batch), rtol=1e-10, atol=0)


def test_a_query_without_negatives_has_no_gradient_and_no_nan() -> None:
    """Each item in a pool of its own, and nothing but its translations beside it."""
    batch = embedded(SOME, torch.arange(4), negatives=0)
    batch.query_bD.requires_grad_()
    loss = Multilingual(weight=1)(batch)
    loss.sum().backward()
    assert loss.tolist() == [0.0] * 4
    assert batch.query_bD.grad is not None
    assert batch.query_bD.grad.abs().max() == 0


# Self-teaching


def with_noisy(batch: EmbeddedBatch, noisy: Tensor) -> EmbeddedBatch:
    return replace(batch, views=batch.views | {"noisy_query": noisy[:, None]})


def test_self_teaching_by_hand() -> None:
    """The clean query has scores 1 and 0, the noisy one 0 and 1: log(p / q) is 1 and -1, with p = e / (1 + e) first."""
    x, y = torch.eye(2, dtype=torch.float64)
    groups = {"positive": torch.tensor([[0], [1]]), "negative": torch.empty(2, 0, dtype=torch.long)}
    batch = EmbeddedBatch(
        query_bD=torch.stack([x, x]),
        views={
            "positive": torch.stack([x, y])[:, None],
            "negative": torch.empty(2, 0, 2, dtype=torch.float64),
            "noisy_query": torch.stack([y, x])[:, None],
        },
        there={name: group >= 0 for name, group in groups.items()},
        first=0,
        groups=groups,
        languages={},
        pool_I=None,
        temperature=torch.tensor(1.0, dtype=torch.float64),
    )
    likely = math.e / (1 + math.e)
    assert SelfTeaching(weight=1)(batch).tolist() == pytest.approx([2 * likely - 1, 0.0], rel=1e-12, abs=1e-15)
    softer = math.exp(0.5) / (1 + math.exp(0.5))  # at twice the temperature, log(p / q) is 1 / 2
    found = SelfTeaching(weight=1, temperature=2)(batch).tolist()
    assert found == pytest.approx([(2 * softer - 1) / 2, 0.0], rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("pool", [None, torch.tensor([0, 0, 1, 1])])
@pytest.mark.parametrize(("first", "own"), [(0, 4), (2, 2)])
def test_self_teaching_by_its_formula(pool: Tensor | None, first: int, own: int) -> None:
    """Over its own passage and those of other groups in its pool, and no others."""
    noisy = unit(4, 8, seed=20)
    batch = with_noisy(embedded(SOME, pool, first, own), noisy)
    expected = []
    for n, query in enumerate(batch.query_bD, first):
        passages = [batch.views["positive"][n, 0]] + [
            batch.views[name][other, 0]
            for name in ("positive", "negative")
            for other in range(4)
            if batch.groups[name][other, 0] != n and (pool is None or pool[other] == pool[n])
        ]
        clean, changed = ([math.exp(float(q @ one) / 0.3 / 1.5) for one in passages] for q in (query, noisy[n]))
        p, q = ([one / sum(of) for one in of] for of in (clean, changed))
        expected.append(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
    assert SelfTeaching(weight=1, temperature=1.5)(batch).tolist() == pytest.approx(expected, rel=1e-9)


def test_only_the_noisy_query_and_the_passages_learn() -> None:
    """The gradient with respect to the noisy scores is q - p; the teacher gets none, masked passages do no harm."""
    batch = embedded(SOME, torch.tensor([0, 0, 1, 1]))
    noisy = unit(4, 8, seed=20).requires_grad_()
    batch.query_bD.requires_grad_()
    SelfTeaching(weight=1)(with_noisy(batch, noisy)).sum().backward()
    assert batch.query_bD.grad is None
    passages = batch.passages("positive", "negative")
    out = passages.group_P[None] == passages.group_P[:4, None]
    out |= passages.pool_P[None] != passages.pool_P[:4, None]  # type: ignore[index]
    out[range(4), range(4)] = False
    p, q = (
        (one.detach() @ passages.embedding_PD.T / 0.3).masked_fill(out, -math.inf).softmax(1)
        for one in (batch.query_bD, noisy)
    )
    torch.testing.assert_close(noisy.grad, (q - p) @ passages.embedding_PD / 0.3, rtol=1e-9, atol=1e-12)


def test_the_same_query_teaches_nothing() -> None:
    batch = embedded(SOME)
    assert SelfTeaching(weight=1)(with_noisy(batch, unit(4, 8, seed=7))).tolist() == [0.0] * 4
    with pytest.raises(ValueError, match=r"loss.self_teaching.temperature is 0: it must be above 0"):
        SelfTeaching(temperature=0)


# The configuration of all terms


def test_the_total_is_the_weighted_sum_of_the_terms_that_are_on() -> None:
    values = {"info_nce": torch.tensor([1.0, 2.0]), "multilingual": torch.tensor([10.0, 20.0])}
    config = LossConfig(info_nce=InfoNCE(weight=0.5), multilingual=Multilingual(weight=2))
    assert config.total(values).tolist() == [20.5, 41.0]
    assert list(LossConfig().terms) == ["info_nce"]
    assert list(config.terms) == ["info_nce", "multilingual"]
    assert config.needs == {"passage_translation"}
    assert all(kind().weight == 0 for name, kind in LOSSES.items() if name != "info_nce")
    for kind in LOSSES.values():  # their fields are options, and `--help` says what they are
        assert all(f"        {one.name}: " in (kind.__doc__ or "") for one in fields(kind)), kind


def test_what_the_loss_cannot_be() -> None:
    every = ", ".join(f"loss.{name}.weight" for name in LOSSES)
    with pytest.raises(ValueError, match=f"^{re.escape(every)} are all 0"):
        LossConfig(info_nce=InfoNCE(weight=0))
    for weight in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"loss.multilingual.weight is .*: it must be at least 0"):
            LossConfig(multilingual=Multilingual(weight=weight))
    with pytest.raises(ValueError, match=r"loss.multilingual.share is 2: it must be from 0 to 1"):
        Multilingual(share=2)
    config = LossConfig(multilingual=Multilingual(weight=1))
    with pytest.raises(ValueError, match=r"no passage translation: set sampling.translations.passage to 1 or more"):
        config.check_views(Sampling(translations=Translations(query=1), noise=Noise()))
    config.check_views(Sampling(translations=Translations(passage=1)))
