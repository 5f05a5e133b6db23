"""Finds the files of a model, in a folder or on the hub. What a folder links to outside of itself is not followed."""

import json
import os
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hybridir.runtime.home import check_hub_cache

TIMEOUT = 10.0
"""Seconds to wait for the hub's answer."""


def check_hub(name: str, revision: str | None) -> None:
    """Raises `ValueError` if `name` is no folder and not in the cache, and the hub cannot be reached.

    The hub is asked once: its own client would try for half a minute for each file.
    """
    from huggingface_hub import constants, get_session, try_to_load_from_cache

    if os.path.isdir(name) or constants.HF_HUB_OFFLINE:
        return
    if isinstance(try_to_load_from_cache(name, "config.json", revision=revision), str):
        return
    check_hub_cache(constants.HF_HUB_CACHE)
    try:
        get_session().head(constants.ENDPOINT, timeout=TIMEOUT)
    except Exception as error:  # of the HTTP library that the client's version uses
        raise ValueError(
            f"no encoder at {name!r}: it is no folder and not in the cache, and {constants.ENDPOINT} cannot be reached "
            f"({type(error).__name__}): correct the name, or the connection"
        ) from None


def find(name: str, revision: str | None, file: str) -> str | None:
    """The local path of a file of a folder or hub id (fetched if need be); None if there is no such file.

    Raises `ValueError` if there is no such model, or if the file lies outside of the model's folder.
    """
    from transformers.utils import cached_file

    if os.path.isdir(name):
        path = os.path.join(name, file)
        if not os.path.exists(path):
            return None
        _check_inside(name, path)
        return path
    try:
        return cached_file(
            name,
            file,
            revision=revision,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    except OSError as error:
        raise ValueError(f"no encoder at {name!r}: it is no folder, and the hub gave no model ({error})") from error


def read_json(name: str, revision: str | None, file: str) -> Any:
    """The content of a JSON file of a model; None if there is no such file."""
    path = find(name, revision, file)
    if path is None:
        return None
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON: fetch or save the model again ({error})") from error


def read_settings(name: str, revision: str | None, file: str) -> dict[str, Any]:
    """The content of a JSON file of a model that holds settings by name; empty if there is no such file."""
    content = read_json(name, revision, file)
    if not isinstance(content, dict | None):
        raise ValueError(f"{name!r}: {file} must hold settings by name: fetch or save the model again")
    return content or {}


def check_links(name: str, places: Iterable[str]) -> None:
    """Raises `ValueError` if something in these subfolders of a model folder is a link to the outside."""
    for place in places:
        folder = os.path.join(name, place)
        if os.path.isdir(folder):
            _check_inside(name, folder)
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_symlink():
                        _check_inside(name, entry.path)


def commit_of(name: str, revision: str | None) -> str | None:
    """The commit of a hub id that is used; None for a folder, or if it is not known."""
    from transformers.utils.hub import extract_commit_hash

    if os.path.isdir(name):
        return None
    files = (find(name, revision, file) for file in ("config.json", "modules.json"))
    return extract_commit_hash(next(filter(None, files), None), None)


def model_of(name: str) -> str:
    """The model folder of a training run, if `name` is the folder of a run; else `name`."""
    inner = os.path.join(name, "model")
    return inner if os.path.isdir(inner) and os.path.exists(os.path.join(name, "config.yaml")) else name


def check_trained(name: str) -> None:
    """Raises `ValueError` with a remedy if `name` is the output folder of a job, and no model lies at its top."""
    models = ("modules.json", "config.json")
    if not os.path.isfile(os.path.join(name, "folder.json")) or any(Path(name, one).exists() for one in models):
        return
    said = read_settings(name, None, "folder.json")
    kind, job = said.get("kind"), said.get("job")
    if os.path.isdir(os.path.join(name, "model")):
        raise ValueError(f"{name} is the folder of a {kind}, not a model: name the model in it, {name}/model")
    if kind != "training run":
        raise ValueError(f"{name} is the folder of another job ({kind}), not a model: name a model or a training run")
    config = shlex.quote(os.path.join(name, "config.yaml"))
    raise ValueError(
        f"the training run in {name} has no trained model yet: continue it with python {job} --config {config} "
        "--resume, or name another run"
    )


def _check_inside(name: str, path: str) -> None:
    root, real = os.path.realpath(name), os.path.realpath(path)
    homes = [root]
    if os.path.basename(os.path.dirname(root)) == "snapshots":  # of the hub's cache: links to the blobs beside it
        homes.append(os.path.join(os.path.dirname(os.path.dirname(root)), "blobs"))
    if not any(os.path.commonpath((home, real)) == home for home in homes):
        raise ValueError(f"{path} leads out of the model's folder, to {real}: put a copy of it into the folder")
