"""The home folder: `~` in paths, and what libraries keep there. It may be missing or read-only, as in containers."""

import os
import tempfile


def at_home(path: str) -> str:
    """The path with the home folder in place of `~`.

    Raises:
        ValueError: it is not known, so that a folder named `~` would be made.
    """
    found = os.path.expanduser(path)
    if found == path and path.partition("/")[0] == "~":
        raise ValueError(f"{path!r}: the home folder is not known: set HOME, or write the path without ~")
    return found


def check_hub_cache(folder: str) -> None:
    """`ValueError` if files of the Hugging Face hub cannot be kept in `folder`, which is below the home folder."""
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"{folder}, where files of the Hugging Face hub are kept, cannot be written to ({error.strerror}): set "
            "HF_HOME to a folder that can be"
        ) from None
