"""Edits of single letters, as in typing errors."""

from hybridir.perturbations.perturbation import Perturbation, Severity, choose_sites, clusters, is_editable
from hybridir.runtime.random_numbers import Uniform


def delete(text: str, language: str, rng: Uniform, severity: Severity) -> str:
    """Leaves out letters, each with its marks; of a text that is nothing but these letters, one stays."""
    units = clusters(text)
    sites = [n for n, unit in enumerate(units) if is_editable(unit)]
    gone = [sites[n] for n in choose_sites(len(sites), rng, severity)]
    if len(gone) == sum(not unit.isspace() for unit in units):
        gone = gone[:-1]
    return "".join(unit for n, unit in enumerate(units) if n not in gone)


DELETE = Perturbation(applies=lambda language: True, apply=delete, unit="grapheme clusters with a letter")
