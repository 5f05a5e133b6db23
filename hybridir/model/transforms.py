"""Models made of other models without training: pure functions of encoders."""

import copy
from dataclasses import replace

import torch

from hybridir.model.encoder import Encoder


def mean_of_weights(*encoders: Encoder) -> Encoder:
    """The encoder whose weights are the mean of theirs; all weights must have the same shapes.

    (Model soups: Wortsman et al. 2022, arXiv 2203.05482.) Everything else is taken from the first encoder.
    """
    states = [encoder.state_dict() for encoder in encoders]
    mean = {
        name: torch.stack([state[name] for state in states]).mean(dim=0) if value.is_floating_point() else value
        for name, value in states[0].items()
    }
    made = copy.deepcopy(encoders[0])
    made.load_state_dict(mean)
    return made


def truncate(encoder: Encoder, dimensions: int) -> Encoder:
    """The encoder with only the first `dimensions` numbers of its embeddings, normalised again.

    (Matryoshka representations: Kusupati et al. 2022, arXiv 2205.13147.) `ValueError` if there are fewer.
    """
    if not 1 <= dimensions <= encoder.width:
        raise ValueError(
            f"dimensions is {dimensions}: it must be from 1 to {encoder.width}, the size of the embeddings"
        )
    made = copy.deepcopy(encoder)
    made.head = replace(made.head, truncate_dim=dimensions)
    return made
