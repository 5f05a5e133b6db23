"""Noise on texts: the kinds of perturbation by name."""

from hybridir.perturbations.edits import DELETE
from hybridir.perturbations.perturbation import Perturbation

PERTURBATIONS: dict[str, Perturbation] = {"delete": DELETE}
