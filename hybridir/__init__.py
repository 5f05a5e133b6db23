"""hybridir: train and measure retrievers that search across languages.

`Encoder`, `train` and `evaluate` are for notebooks and scripts; what they need is imported when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybridir.model.encoder import Encoder as Encoder
    from hybridir.runs.notebook import evaluate as evaluate
    from hybridir.runs.notebook import train as train

__version__ = "0.1.0"
_PLACES = {"Encoder": "hybridir.model.encoder", "train": "hybridir.runs.notebook", "evaluate": "hybridir.runs.notebook"}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])
