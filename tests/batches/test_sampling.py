"""The mix of batches by the name of a method, or by weights."""

from dataclasses import replace

import pytest

from hybridir.batches.plan import Plan, TooLarge
from hybridir.batches.sampling import Sampling
from hybridir.runs.prepare import Prepared


@pytest.mark.parametrize(
    ("method", "alpha", "weights"),
    [
        ("X-X-mono", None, [1, 0, 0, 0]),
        ("X-X", None, [0, 1, 0, 0]),
        ("X-Y", None, [0, 0, 1, 0]),
        ("hybrid", None, [0.5, 0, 0.5, 0]),
        ("hybrid", 0.25, [0.25, 0, 0.75, 0]),
        ("hybrid", 0, [0, 0, 1, 0]),
        ("En-En", None, [1, 0, 0, 0]),
        ("sum", None, [0, 0, 0, 1]),
    ],
)
def test_methods_are_weights(method: str, alpha: float | None, weights: list[float]) -> None:
    found = Sampling(method=method, alpha=alpha)
    assert found.weights == weights
    languages = ("en",) if method == "En-En" else None
    mono, mixed, cross, both = weights
    assert found == Sampling(mono=mono, mixed=mixed, cross=cross, both=both, languages=languages)
    assert replace(found, mono=1.0, mixed=0.0, cross=0.0, both=0.0).weights == [1, 0, 0, 0]
    assert Sampling(method=method, alpha=alpha, mono=mono, mixed=mixed, cross=cross, both=both) == found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "X-Y", "mono": 0.3, "cross": 0.7}, r"another mix \(mono 0\.3, cross 0\.7\): give the method or"),
        ({"method": "hybird"}, r"'hybird' is unknown \(did you mean hybrid\?\); there are X-X-mono, X-X, X-Y"),
        ({"method": "x-y"}, r"did you mean X-Y\?"),
        ({"method": "X-Y", "alpha": 0.5}, "only the method hybrid uses it"),
        ({"method": "hybrid", "alpha": 1.5}, "a value from 0 to 1"),
        ({"alpha": 0.5}, "only sampling.method hybrid uses"),
        ({"method": "En-En", "languages": ("de",)}, "sampling.languages has de: leave that out"),
    ],
)
def test_contradictions_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampling(**options)


def test_the_largest_batch_that_fits_is_named(small_run: Prepared) -> None:
    for sampling in (Sampling(mono=1, cross=0), Sampling(mono=0, cross=1), Sampling()):
        with pytest.raises(TooLarge) as error:
            Plan(small_run.corpus, sampling, 10_000, 0)
        largest = error.value.largest
        assert f"Lower train.batch_size to {largest}" in str(error.value)
        assert len(Plan(small_run.corpus, sampling, largest, 0).batch(0).groups) == largest
        with pytest.raises(TooLarge):
            Plan(small_run.corpus, sampling, largest + 1, 0)
