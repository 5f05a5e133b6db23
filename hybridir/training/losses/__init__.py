"""The terms of the training loss by name. The fields of each are its options, such as `--loss.info_nce.weight`."""

from hybridir.training.losses.distill import Distill
from hybridir.training.losses.embedded import Loss
from hybridir.training.losses.erase import Erase
from hybridir.training.losses.info_nce import InfoNCE
from hybridir.training.losses.multilingual import Multilingual
from hybridir.training.losses.reverse import Reverse
from hybridir.training.losses.score_kl import ScoreKL
from hybridir.training.losses.self_teaching import SelfTeaching
from hybridir.training.losses.symmetric import Symmetric
from hybridir.training.losses.translation import Translation

LOSSES: dict[str, type[Loss]] = {
    "info_nce": InfoNCE,
    "multilingual": Multilingual,
    "self_teaching": SelfTeaching,
    "translation": Translation,
    "symmetric": Symmetric,
    "reverse": Reverse,
    "score_kl": ScoreKL,
    "distill": Distill,
    "erase": Erase,
}
