"""The terms of the training loss by name. The fields of each are its options, such as `--loss.info_nce.weight`."""

from hybridir.training.losses.embedded import Loss
from hybridir.training.losses.info_nce import InfoNCE
from hybridir.training.losses.multilingual import Multilingual

LOSSES: dict[str, type[Loss]] = {"info_nce": InfoNCE, "multilingual": Multilingual}
