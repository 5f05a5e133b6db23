"""Studies by name. A new one is one module here and one line."""

from hybridir.experiments.studies.alpha import ALPHA
from hybridir.experiments.studies.sampling import SAMPLING
from hybridir.experiments.study import Study

STUDIES: dict[str, Study] = {"sampling": SAMPLING, "alpha": ALPHA}
