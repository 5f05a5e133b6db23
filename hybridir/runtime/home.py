"""The home folder: `~` in paths, and what libraries keep there. It may be missing or read-only, as in containers."""

import os
import re
import tempfile


def at_home(path: str) -> str:
    """The path with the home folder in place of `~`.

    Raises:
        ValueError: it is not known, or `~name` is no user, so that a folder of that name would be made.
    """
    found, first = os.path.expanduser(path), path.partition("/")[0]
    if found == path and first == "~":
        raise ValueError(f"{path!r}: the home folder is not known: set HOME, or write the path without ~")
    if found == path and re.fullmatch(r"~[a-z_][\w.-]*", first):
        raise ValueError(f"{path!r}: there is no user {first[1:]}: write ./{path} for a folder of that name")
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
