"""Noise between plan and tokens: who gets it, that it is the same everywhere, and that nothing else changes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hybridir.batches import draws
from hybridir.batches.census import show_plan, take_census
from hybridir.batches.plan import Plan
from hybridir.batches.sampling import Noise, Sampling, Translations
from hybridir.batches.stream import BatchSource, TokenBatch
from hybridir.batches.token_cache import query_texts
from hybridir.batches.token_counts import count_tokens, in_steps
from hybridir.model.tokenizer import load_tokenizer
from hybridir.perturbations import PERTURBATIONS
from hybridir.perturbations.perturbation import Perturbation, Site
from hybridir.runs.prepare import Prepared
from hybridir.runtime.random_numbers import uniform_numbers
from hybridir.training.agreement import Shared, not_finite_error
from hybridir.training.objective import LossConfig


@pytest.fixture(scope="module")
def clean(small_run: Prepared) -> BatchSource:
    return small_run.job.source


@pytest.fixture(scope="module")
def noisy(clean: BatchSource) -> BatchSource:
    return with_noise(clean, probability=0.5)


def with_noise(source: BatchSource, **noise: object) -> BatchSource:
    return replace(source, sampling=replace(source.sampling, noise=Noise(**noise)))  # type: ignore[arg-type]


def texts_of(batch: TokenBatch) -> list[list[int]]:
    return [ids.tolist() for ids in np.split(batch.ids, np.cumsum(batch.lengths)[:-1])]


def test_half_of_the_queries_lose_a_letter_and_all_else_stays(clean: BatchSource, noisy: BatchSource) -> None:
    """The items that are drawn, and their tokens, from the definition: numbers of the stream, text, tokenizer."""
    assert clean.token_job
    tokenizer, plan, changed = load_tokenizer(clean.token_job.tokenizer), clean.plan(), 0
    for step in range(12):
        batch, ours, before = plan.batch(step), texts_of(noisy.batch(step)), texts_of(clean.batch(step))
        assert ours[8:] == before[8:]
        for item in range(8):
            rng = uniform_numbers(clean.seed, draws.QUERY_NOISE, step, item)
            if rng(1)[0] >= 0.5:
                assert ours[item] == before[item]
                continue
            rng(1)  # one kind among one
            text = PERTURBATIONS["delete"].apply(plan.corpus.pair(int(batch.query_row[item]))["query"], "", rng, "one")
            ids = tokenizer(clean.token_job.query_prefix + text)["input_ids"]
            assert ours[item] == (ids if len(ids) <= 64 else [*ids[:63], ids[-1]])
            changed += ours[item] != before[item]
    assert 30 < changed < 66  # of 96, with probability 0.5 each: 48 - 18 to 48 + 18 is 3.7 standard deviations


def test_golden_draws() -> None:
    """Changes where the numbers of the noise of published runs would change."""
    rng = uniform_numbers(11, draws.QUERY_NOISE, 3, 5)
    assert rng(3).tolist() == [0.4193455588882885, 0.16734584229292016, 0.4426374163303386]


@pytest.mark.parametrize("world_size", [2, 4])
def test_any_number_of_workers_gets_the_same_noise(noisy: BatchSource, world_size: int) -> None:
    for step in (0, 1, 7, 1000):
        parts = [noisy.batch(step, rank, world_size).digests() for rank in range(world_size)]
        assert np.array_equal(np.concatenate(parts), noisy.batch(step).digests())


def test_noise_changes_no_draw_of_the_plan(clean: BatchSource, noisy: BatchSource) -> None:
    for step in range(5):
        assert np.array_equal(noisy.batch(step).example, clean.batch(step).example)
    assert not np.array_equal(noisy.batch(0).ids, clean.batch(0).ids)
    assert not np.array_equal(noisy.batch(0).ids, replace(noisy, seed=1).batch(0).ids)


def test_severity_0_is_the_clean_batch(clean: BatchSource) -> None:
    still = with_noise(clean, probability=1, severity=0)
    assert all(np.array_equal(still.batch(step).digests(), clean.batch(step).digests()) for step in range(3))


def test_a_kind_comes_only_where_it_applies(clean: BatchSource, monkeypatch: pytest.MonkeyPatch) -> None:
    shout = Perturbation(languages={"de"}, sites=lambda text, _: [Site(0, len(text), ("x",))], unit="texts")
    monkeypatch.setitem(PERTURBATIONS, "shout", shout)
    with pytest.raises(ValueError, match=r"shout, but none of them applies to queries in en, es: add a kind"):
        with_noise(clean, probability=1, kinds=("shout",)).batch(0)
    both = with_noise(clean, probability=1, kinds=("delete", "shout"))
    assert clean.token_job
    x = load_tokenizer(clean.token_job.tokenizer)(clean.token_job.query_prefix + "x")["input_ids"]
    found = {language: [0, 0] for language in ("de", "en", "es")}
    for step in range(30):
        for language, text in zip(both.plan().batch(step).query_language, texts_of(both.batch(step)), strict=False):
            found[clean.plan().languages[language]][text == x] += 1
    assert found["en"][1] == found["es"][1] == 0
    (plain, shouted) = found["de"]
    assert abs(shouted - plain) < 5 * (plain + shouted) ** 0.5


def test_a_view_with_noise_needs_a_kind_for_every_language(
    clean: BatchSource, make_run: Callable[..., Prepared], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if no query is replaced; a run says so before it starts."""
    monkeypatch.setitem(PERTURBATIONS, "shout", Perturbation(languages={"de"}, sites=lambda *_: [], unit="texts"))
    message = r"shout, but none of them applies to queries in en, es: add a kind"
    with pytest.raises(ValueError, match=message):
        replace(with_noise(clean, kinds=("shout",)), noisy_query=True).batch(0)
    monkeypatch.setattr(LossConfig, "needs", {"noisy_query"})
    with pytest.raises(ValueError, match=message):
        make_run(tmp_path / "run", sampling={"noise": Noise(kinds=("shout",))})


def test_the_error_for_a_loss_shows_the_text_that_was_trained_on(clean: BatchSource) -> None:
    shared = Shared(loss=np.nan, terms={}, norm=1.0, stop=False, tokens=0, sha256="", not_finite=[1])
    source = with_noise(clean, probability=1)
    batch = source.plan().batch(4)
    query = source.plan().corpus.pair(int(batch.query_row[1]))["query"]
    text = source.noisy_texts(batch)[1]
    assert len(text) < len(query)
    assert clean.token_job
    assert clean.token_job.tokenize_queries([text])[0] == texts_of(source.batch(4))[1]
    assert f"query {text!r} (with noise; without: {query!r}), passage" in str(not_finite_error(4, shared, source))
    assert f"query {query!r}, passage" in str(not_finite_error(4, shared, clean))


def test_texts_beside_the_corpus(clean: BatchSource) -> None:
    corpus = clean.plan().corpus
    texts = query_texts(corpus).take(np.arange(corpus.n_pairs))
    assert [text.tobytes().decode() for text in texts] == [corpus.pair(n)["query"] for n in range(corpus.n_pairs)]


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        ({"probability": 1.5}, r"sampling.noise.probability is 1.5: it must be from 0 to 1"),
        ({"kinds": ("typo",)}, r"sampling.noise.kinds is \('typo',\): name some of delete"),
        ({"kinds": ()}, r"sampling.noise.kinds is \(\): name some of"),
        ({"severity": 2.0}, r"sampling.noise.severity is 2.0: it must be from 0 to 1, or one"),
        ({"severity": "two"}, r"sampling.noise.severity is two: it must be from 0 to 1, or one"),
    ],
)
def test_what_noise_cannot_be(noise: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Noise(**noise)  # type: ignore[arg-type]


def test_validation_stays_clean(make_run: Callable[..., Prepared], tmp_path: Path, clean: BatchSource) -> None:
    run = make_run(tmp_path / "run", sampling={"noise": Noise(probability=1)})
    assert all(source.sampling.noise.probability == 0 for source in run.job.validation_sources.values())
    assert not np.array_equal(run.job.source.batch(0).digests(), clean.batch(0).digests())
    assert Plan(run.corpus, Sampling(noise=Noise(probability=1)), 8, 0).batch(0).query_row.tolist() == (
        Plan(run.corpus, Sampling(), 8, 0).batch(0).query_row.tolist()
    )


def test_lengths_are_counted_without_reading_texts(
    noisy: BatchSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every view, with noise and translations; and the tokens before each step are their sums."""
    sampling = replace(noisy.sampling, translations=Translations(passage=2, query=1))
    source = replace(noisy, sampling=sampling, noisy_query=True)
    totals = [0]
    for step in range(6):
        batch, found = source.batch(step), source.lengths(step)
        assert {view: len(one) // 8 for view, one in found.items()} == batch.views
        assert np.concatenate(list(found.values())).tolist() == batch.lengths.tolist()
        totals.append(totals[-1] + sum(int(source.batch(step, rank, 2).lengths.sum()) for rank in range(2)))
    (tmp_path / "tokens").symlink_to(source.tokens)
    source = replace(source, tokens=str(tmp_path / "tokens"))
    for least, expected in ((totals[2], totals[:3]), (totals[-2] + 1, totals), (totals[-2], totals[:-1])):
        assert count_tokens(source, least) == expected  # the second goes on where the first has ended
    (kept,) = tmp_path.glob("counts-*.npy")
    assert np.load(kept).tolist() == totals
    monkeypatch.setattr(BatchSource, "lengths", None)  # nothing is counted again
    assert count_tokens(source, totals[-1]) == totals
    monkeypatch.undo()
    kept.write_bytes(b"damaged")
    assert count_tokens(source, totals[1]) == totals[:2]
    for other in (replace(source, seed=1), replace(source, sampling=replace(sampling, noise=Noise()))):
        count_tokens(other, 1)
    assert len(list(tmp_path.glob("counts-*.npy"))) == 3


def test_monolingual_tokens_first(clean: BatchSource) -> None:
    """The monolingual steps end with the one that reaches the number."""
    mono = replace(clean, sampling=Sampling(mono=1, cross=0))
    sizes = [int(mono.batch(step).lengths.sum()) for step in range(5)]
    for least, steps in ((sum(sizes[:4]), 4), (sum(sizes[:4]) + 1, 5), (1, 1)):
        asked = replace(clean, sampling=Sampling(mono=0, cross=1, mono_first_tokens=least))
        assert in_steps(asked) == replace(clean, sampling=Sampling(mono=0, cross=1, mono_first=steps))
    assert in_steps(clean) == clean
    with pytest.raises(ValueError, match=r"mono_first is 1 and sampling.mono_first_tokens is 2: give only one of them"):
        Sampling(mono_first=1, mono_first_tokens=2)


def test_the_census_counts_noise_translations_tokens(noisy: BatchSource, capsys: pytest.CaptureFixture[str]) -> None:
    source = replace(noisy, sampling=replace(noisy.sampling, translations=Translations(passage=1)))
    census = take_census(source, 12)
    assert census.tokens == [int(source.batch(step).lengths.sum()) for step in range(12)]
    drawn = [uniform_numbers(noisy.seed, draws.QUERY_NOISE, *divmod(n, 8))(1)[0] < 0.5 for n in range(12 * 8)]
    assert census.noise == {"delete": sum(drawn)}
    show_plan(source, 12)
    shown = capsys.readouterr().out
    assert f"of all steps {sum(census.tokens):,}" in shown
    assert f"passage translations of an item: {census.texts['passage_translation'] / 96:.2f} on average" in shown
    assert "noise of queries" in shown
