"""Scores of embeddings, and the softmax losses over them: what several losses share.

Shapes: Q texts of this rank, P texts that they are scored against, D dimension.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from hybridir.model.precision import at_least_float32


def similarity(text_QD: Tensor, other_PD: Tensor) -> Tensor:
    """Dot products [Q, P] of normalised embeddings, in float32 or wider even under autocast.

    In bfloat16, at temperature 0.02, scores would be off by about 0.1.
    """
    with torch.autocast(text_QD.device.type, enabled=False):
        dtype = at_least_float32(text_QD.dtype)
        return text_QD.to(dtype) @ other_PD.to(dtype).T


def cross_entropy(score_QP: Tensor, positive_Q: Tensor, negative_QP: Tensor) -> Tensor:
    """-log(exp(s_p) / (exp(s_p) + sum over negatives n of exp(s_n))), [Q]: `positive_Q` is the place of p, int64."""
    counted_QP = negative_QP.clone()
    counted_QP[torch.arange(len(positive_Q), device=positive_Q.device), positive_Q] = True
    return F.cross_entropy(score_QP.masked_fill(~counted_QP, float("-inf")), positive_Q, reduction="none")


def divergence(teacher_QP: Tensor, student_QP: Tensor, counted_QP: Tensor) -> Tensor:
    """KL(softmax of the teacher's scores || softmax of the student's), [Q], without gradient to the teacher.

    Only counted places have a share; 0 for a row that counts none.
    """
    lowest = torch.finfo(student_QP.dtype).min  # and not -inf, which times 0 is NaN
    both = (teacher_QP.detach().to(student_QP.dtype), student_QP)
    teacher_QP, student_QP = (scores.masked_fill(~counted_QP, lowest).log_softmax(dim=1) for scores in both)
    apart_QP = teacher_QP.exp() * (teacher_QP - student_QP)
    return apart_QP.where(counted_QP, torch.zeros_like(apart_QP)).sum(dim=1)
