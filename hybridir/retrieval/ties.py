"""The rule for ties: a higher score comes first; of equal scores, the passage with the lower position.

Shapes: Q queries, P passages, R relevant passages of a query.
"""

import numpy as np


def keep_best(score: np.ndarray, place: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k best scores (float32) of each row and their places (positions of passages), by the tie rule.

    A score and its place are packed into one integer. These integers differ, so a partition finds the k best, and only
    the k best are sorted.
    """
    rising = flip((score + 0.0).view(np.int32))  # + 0.0 turns -0.0 into 0.0
    packed = place.astype(np.uint32) - (rising.astype(np.int64) << 32)
    k = min(k, packed.shape[1])
    packed = np.partition(packed, k - 1, axis=1)[:, :k]
    packed.sort(axis=1)
    best = flip((-(packed >> 32)).astype(np.int32)).view(np.float32)
    return best, packed.astype(np.uint32).view(np.int32).astype(np.int64)


def flip(bits: np.ndarray) -> np.ndarray:
    """Turns the bits of floats into integers of the same order, and back."""
    return np.where(bits < 0, bits ^ 0x7FFFFFFF, bits)


def merge_best(
    best_score: np.ndarray, best_place: np.ndarray, scores_QP: np.ndarray, place_P: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The k best of the best so far and of a shard of scores, whose passages have the positions `place_P`."""
    places = np.broadcast_to(place_P, scores_QP.shape)
    score = np.concatenate([best_score, scores_QP], axis=1, dtype=np.float32)
    return keep_best(score, np.concatenate([best_place, places], axis=1), k)


def count_above(scores_QP: np.ndarray, place_P: np.ndarray, score_QR: np.ndarray, place_QR: np.ndarray) -> np.ndarray:
    """Counts the passages that rank before each relevant one: a higher score, or an equal score at a lower position."""
    above = np.empty(score_QR.shape, dtype=np.int64)
    for r in range(score_QR.shape[1]):
        own, place = score_QR[:, r, None], place_QR[:, r, None]
        above[:, r] = ((scores_QP > own) | ((scores_QP == own) & (place_P < place))).sum(axis=1)
    return above
