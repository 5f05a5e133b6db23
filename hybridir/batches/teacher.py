"""The embeddings of training texts by another encoder, the teacher, read as batches need them.

A folder has `query.npy` and `passage.npy`, a row for each pair of the corpus; rows that are not needed are zeros.

Shapes: b items of one rank, N pairs of the corpus, T dimension of the teacher's embeddings.
"""

from pathlib import Path

import numpy as np

from hybridir.batches.plan import Batch, Plan

SIDES = ("query", "passage")


class Teacher:
    """Embeddings in a folder, memory-mapped, for the texts of batches in one `language`, or in their own."""

    def __init__(self, folder: str, plan: Plan, language: str | None) -> None:
        self._query_NT, self._passage_NT = (np.load(Path(folder, f"{side}.npy"), mmap_mode="r") for side in SIDES)
        self._row_of = plan.corpus.row_of
        self._column = None if language is None else plan.corpus.languages.index(language)

    def take(self, batch: Batch) -> np.ndarray:
        """Of the queries and then of the positives of a batch, float32 [2 b, T]; zeros where there is no text."""
        read = None if self._column is None else self._row_of[batch.groups, self._column]
        sides = ((self._query_NT, batch.query_row), (self._passage_NT, batch.passage_row))
        return np.concatenate([_rows(table_NT, own if read is None else read) for table_NT, own in sides])


def _rows(table_NT: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return np.where(rows[:, None] >= 0, table_NT[rows], np.float32(0))
