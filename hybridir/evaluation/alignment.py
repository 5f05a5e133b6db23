"""How well languages are aligned: pure functions of the embeddings of translated passages.

A high cosine between translations proves little if all passages have one, so every measure has its own chance level.

Shapes: G groups of translated passages, L languages, D dimension, Q queries, K retrieved, N texts.
"""

from collections.abc import Iterator

import numpy as np

TIE = 1e-9
"""Cosines that are no farther apart are equal: more than rounding, in float64, and less than float32 can tell."""


def translation_margin(embedding_GLD: np.ndarray) -> float:
    """Mean cosine of a passage with its translation, minus that with passages of other groups in the same language.

    The mean over all ordered pairs of languages that share two groups; NaN without one. 0 is chance. Groups without a
    passage in a language have zeros there.
    """
    found = []
    for cosine_NN in _pairs(embedding_GLD):
        size = len(cosine_NN)
        own = float(np.trace(cosine_NN))
        found.append(own / size - (float(cosine_NN.sum()) - own) / (size * (size - 1)))
    return float(np.mean(found)) if found else np.nan


def bitext_precision(embedding_GLD: np.ndarray) -> float:
    """Share of passages whose nearest passage in another language is their translation: P@1 of bitext retrieval.

    The mean over all ordered pairs of languages, so both ways, as in `translation_margin`; 1 / G is chance. A tie (up
    to `TIE`) is wrong.
    """
    found = []
    for cosine_NN in _pairs(embedding_GLD):
        own_N = cosine_NN.diagonal()
        others_NN = np.where(np.eye(len(own_N), dtype=bool), -np.inf, cosine_NN)
        found.append(float(np.mean(own_N > others_NN.max(axis=1) + TIE)))
    return float(np.mean(found)) if found else np.nan


def language_told(embedding_GLD: np.ndarray) -> float:
    """Share of passages whose language is that of the nearest mean embedding of a language; the mean over languages.

    Means are taken over every second group, and tell the language of the others, and the other way round. 1 / L is
    chance; NaN if a half lacks a language.
    """
    normal_GLD, there_GL = _normal(embedding_GLD)
    shares = []
    for half in (0, 1):
        own, other = slice(half, None, 2), slice(1 - half, None, 2)
        count_L = there_GL[other].sum(axis=0)
        if not count_L.all() or not there_GL[own].any(axis=0).all():
            return np.nan
        mean_LD = normal_GLD[other].sum(axis=0) / count_L[:, None]
        distance_GLL = ((normal_GLD[own][:, :, None] - mean_LD) ** 2).sum(axis=-1)
        right_GL = (distance_GLL.argmin(axis=-1) == np.arange(len(mean_LD))) & there_GL[own]
        shares.append(right_GL.sum(axis=0) / there_GL[own].sum(axis=0))
    return float(np.mean(shares))


def hubness(top_QK: np.ndarray, n_passages: int) -> float:
    """Skewness of how often each passage is among the first K of a query (Radovanovic et al. 2010, JMLR 11).

    0 if all passages are retrieved about as often; high if a few are near everything. NaN if all are retrieved equally
    often.

    Args:
        top_QK: positions of the retrieved passages; negative if there is none.
        n_passages: number of passages.
    """
    count = np.bincount(top_QK[top_QK >= 0], minlength=n_passages).astype(float)
    apart = count - count.mean()
    return float(np.mean(apart**3) / np.mean(apart**2) ** 1.5) if apart.any() else np.nan


def _normal(embedding_GLD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of length 1, in float64, and where there are any, [G, L]."""
    length_GL = np.linalg.norm(embedding_GLD.astype(np.float64), axis=-1)
    there_GL = length_GL > 0
    return embedding_GLD / np.where(there_GL, length_GL, 1.0)[..., None], there_GL


def _pairs(embedding_GLD: np.ndarray) -> Iterator[np.ndarray]:
    """For each ordered pair of languages: the cosines of the passages of both, for groups that are in both."""
    normal_GLD, there_GL = _normal(embedding_GLD)
    for one in range(there_GL.shape[1]):
        for other in range(there_GL.shape[1]):
            both = there_GL[:, one] & there_GL[:, other]
            if one != other and both.sum() > 1:
                yield normal_GLD[both, one] @ normal_GLD[both, other].T
