"""Studies by name. A new one is one module here and one line."""

from hybridir.studies.alpha import ALPHA
from hybridir.studies.sampling import SAMPLING
from hybridir.study import Study

STUDIES: dict[str, Study] = {"sampling": SAMPLING, "alpha": ALPHA}
