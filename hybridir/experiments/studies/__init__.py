"""Studies by name. A new study is a module here and a line in `STUDIES`."""

from hybridir.experiments.studies.alignment import ALIGNMENT
from hybridir.experiments.studies.alpha import ALPHA
from hybridir.experiments.studies.dimensions import DIMENSIONS
from hybridir.experiments.studies.robustness import ROBUSTNESS
from hybridir.experiments.studies.sampling import SAMPLING
from hybridir.experiments.study import Study

STUDIES: dict[str, Study] = {
    "sampling": SAMPLING,
    "alpha": ALPHA,
    "robustness": ROBUSTNESS,
    "alignment": ALIGNMENT,
    "dimensions": DIMENSIONS,
}
