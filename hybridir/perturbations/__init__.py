"""Noise on texts: the kinds of perturbation by name."""

from typing import TYPE_CHECKING, Literal

from hybridir.perturbations.edits import DELETE
from hybridir.perturbations.perturbation import Perturbation

PERTURBATIONS: dict[str, Perturbation] = {"delete": DELETE}

if TYPE_CHECKING:
    Perturbing = str
else:
    Perturbing = Literal[tuple(PERTURBATIONS)]  # so that `--help` lists them
