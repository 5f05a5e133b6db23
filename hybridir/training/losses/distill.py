"""Learning from another encoder, the teacher: its embeddings, or the scores that follow from them."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from hybridir.model.precision import at_least_float32
from hybridir.training.losses.embedded import EmbeddedBatch
from hybridir.training.losses.scores import divergence, similarity


@dataclass(frozen=True, kw_only=True)
class Distill:
    """Distillation from another encoder, whose embeddings of all training texts are computed once, before training.

    Args:
        weight: weight of this term in the training loss; 0 is off.
        teacher: the teacher: a model folder, the folder of a training run, or a hub id.
        language: the teacher reads every text in this language. Omitted: in the language of the text itself.
        match: what is learnt. `embeddings`: |T(x) - S(x)|^2 and |T(x) - S(x')|^2 for the translations x' in the batch
            (arXiv 2004.09813), of queries and passages; the teacher must have as many dimensions. `scores`:
            KL(softmax of the teacher's scores / t || softmax of the student's / t) over the positives of the batch.
            `margins`: the squared difference of the margins s(q, p) - s(q, other p) (MarginMSE, arXiv 2010.02666).
    """

    weight: float = 0.0
    teacher: str = ""
    language: str | None = None
    match: Literal["embeddings", "scores", "margins"] = "embeddings"
    needs: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if self.weight and not self.teacher:
            raise ValueError(
                f"loss.distill.weight is {self.weight}, but loss.distill.teacher is empty: name a model folder or a "
                "hub id, or set the weight to 0"
            )

    def __call__(self, batch: EmbeddedBatch) -> Tensor:
        """One loss an item of this rank, [b].

        An item that the teacher does not know has 0, and the others are scaled for that. `ValueError` if the dimensions
        of the embeddings differ.
        """
        assert batch.teacher, "the teacher's embeddings are computed before training"
        known_I = torch.stack([text_IT.abs().sum(dim=1) > 0 for text_IT in batch.teacher.values()]).all(dim=0)
        value_b = self._embeddings(batch) if self.match == "embeddings" else self._scores(batch, known_I)
        own_b = known_I[batch.own_b]
        return value_b.where(own_b, torch.zeros_like(value_b)) * len(known_I) / known_I.sum().clamp(min=1)

    def _embeddings(self, batch: EmbeddedBatch) -> Tensor:
        own_b = batch.own_b
        teacher_bT, student_bD = batch.teacher["query"][own_b], batch.query_bD
        if teacher_bT.shape[1] != student_bD.shape[1]:
            raise ValueError(
                f"the embeddings of loss.distill.teacher, {self.teacher}, have {teacher_bT.shape[1]} numbers, those of "
                f"the encoder {student_bD.shape[1]}: set loss.distill.match to scores or margins"
            )
        values = [squared_distance(teacher_bT, student_bD)]
        values.append(squared_distance(batch.teacher["positive"][own_b], batch.views["positive"][own_b, 0]))
        for side, view in (("query", "query_translation"), ("positive", "passage_translation")):
            if view in batch.views:
                there_bk = batch.there[view][own_b]
                apart_bk = squared_distance(batch.teacher[side][own_b][:, None], batch.views[view][own_b])
                values.append((apart_bk * there_bk).sum(dim=1) / there_bk.sum(dim=1).clamp(min=1))
        return torch.stack(values).sum(dim=0) + 0 * batch.temperature  # so that it has a gradient if it is trained

    def _scores(self, batch: EmbeddedBatch, known_I: Tensor) -> Tensor:
        own_b, passages = batch.own_b, batch.passages("positive")
        counted_bI = batch.negatives(passages) & known_I
        taught = {side: text_IT.to(batch.query_bD.dtype) for side, text_IT in batch.teacher.items()}
        teacher_bI = similarity(taught["query"][own_b], taught["positive"])
        student_bI = similarity(batch.query_bD, passages.embedding_PD)
        if self.match == "scores":
            counted_bI = counted_bI.scatter(1, own_b[:, None], True)
            return divergence(teacher_bI / batch.temperature, student_bI / batch.temperature, counted_bI)
        teacher_bI, student_bI = (one.gather(1, own_b[:, None]) - one for one in (teacher_bI, student_bI))
        apart_b = ((student_bI - teacher_bI).square() * counted_bI).sum(dim=1) / counted_bI.sum(dim=1).clamp(min=1)
        return apart_b + 0 * batch.temperature


def squared_distance(first: Tensor, second: Tensor) -> Tensor:
    """The squared distances of vectors [..., D], in float32 or wider: [...]."""
    with torch.autocast(second.device.type, enabled=False):
        dtype = at_least_float32(second.dtype)
        return (first.to(dtype) - second.to(dtype)).square().sum(dim=-1)
