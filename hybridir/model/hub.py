"""Whether the Hugging Face hub can be reached, asked once: its own client tries for half a minute for each file."""

import os

TIMEOUT = 10.0
"""Seconds to wait for the hub's answer."""


def check_hub(name: str, revision: str | None) -> None:
    """Raises `ValueError` if `name` is no folder and not in the cache, and the hub cannot be reached."""
    from huggingface_hub import constants, get_session, try_to_load_from_cache

    if os.path.isdir(name) or constants.HF_HUB_OFFLINE:
        return
    if isinstance(try_to_load_from_cache(name, "config.json", revision=revision), str):
        return
    try:
        get_session().head(constants.ENDPOINT, timeout=TIMEOUT)
    except Exception as error:  # of the HTTP library that the client's version uses
        raise ValueError(
            f"no encoder at {name!r}: it is no folder and not in the cache, and {constants.ENDPOINT} cannot be reached "
            f"({type(error).__name__}): correct the name, or the connection"
        ) from None
