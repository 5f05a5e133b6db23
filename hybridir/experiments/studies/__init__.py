"""Studies by name. A new study is a module here and a line in `STUDIES`."""

from hybridir.experiments.studies.alignment import ALIGNMENT
from hybridir.experiments.studies.alpha import ALPHA
from hybridir.experiments.studies.dimensions import DIMENSIONS
from hybridir.experiments.studies.domain_shift import DOMAIN_SHIFT
from hybridir.experiments.studies.robustness import ROBUSTNESS
from hybridir.experiments.studies.sampling import SAMPLING
from hybridir.experiments.studies.scaling import SCALING
from hybridir.experiments.study import Study

STUDIES: dict[str, Study] = {
    one.name: one for one in (SAMPLING, ALPHA, ROBUSTNESS, ALIGNMENT, DIMENSIONS, DOMAIN_SHIFT, SCALING)
}
