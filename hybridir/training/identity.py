"""What must stay the same when a run is resumed, and how fields that have been added since are read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hybridir.runtime.left_behind import check_terms
from hybridir.training import checkpoint as ckpt


def check_identity(checkpoint: Path, identity: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Raises `ValueError` with the first value of `identity` that differs from the one in the checkpoint.

    A field that the checkpoint does not know had its value in `defaults`.
    """
    saved = with_defaults(ckpt.read_state(checkpoint)["identity"], defaults)
    check_saved_terms(saved, identity, str(checkpoint))
    for name in sorted(identity):
        if saved.get(name) != identity[name]:
            raise ValueError(
                f"{checkpoint} was written with {name} = {saved.get(name)!r}, now it is {identity[name]!r}. "
                "Resume with the same value, or start a new run in another --output"
            )


def check_saved_terms(saved: Mapping[str, Any], now: Mapping[str, Any], where: str) -> None:
    """Raises `ValueError` if a term of the loss that was on when `saved` (flat names) was written is no more."""
    old, known = (
        {name.removeprefix("loss."): value for name, value in one.items() if name.startswith("loss.")}
        for one in (saved, now)
    )
    check_terms(old, known, where)


def with_defaults(saved: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The saved fields, with those that are missing from `defaults`; in sections of sections too."""
    filled = dict(defaults) | dict(saved)
    for name, default in defaults.items():
        if isinstance(default, dict) and isinstance(filled[name], dict):
            filled[name] = with_defaults(filled[name], default)
    return filled
