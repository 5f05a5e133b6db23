"""Checkpoints: weights, optimiser state and step in one folder, which is either complete or absent.

A checkpoint has a manifest of its files (sizes and SHA-256). A folder whose files do not match is reported and skipped.
"""

import errno
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hybridir.runtime.durable import UNFINISHED, remove, replaced_folder, storage_explained

MANIFEST = "manifest.json"
_FOLDERS = "step-????????"  # does not match a copy such as step-00000100.old
_WEIGHTS, _OPTIMIZER, _STATE = "model.safetensors", "optimizer.safetensors", "state.json"


def folder(root: Path, step: int) -> Path:
    """The folder of the checkpoint after `step` steps."""
    return root / f"step-{step:08d}"


def save_checkpoint(
    root: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]
) -> Path:
    """Writes the checkpoint after `step` steps to `root/step-STEP` and returns that path. `state` must be plain JSON.

    Raises:
        OSError: the storage failed; the message has a remedy. Earlier checkpoints stay as they are.
    """
    final = folder(root, step)
    with storage_explained(final), replaced_folder(final) as work:  # there is one already only if it is damaged
        frozen = _frozen(model)
        weights = {k: v.contiguous().cpu() for k, v in model.state_dict().items() if k not in frozen}
        save_file(weights, work / _WEIGHTS)
        save_file(_flatten(model, optimizer), work / _OPTIMIZER)
        (work / _STATE).write_text(json.dumps({"step": step, **state}, indent=1), encoding="utf-8")
        names = (_WEIGHTS, _OPTIMIZER, _STATE)
        manifest = {name: {"size": (work / name).stat().st_size, "sha256": _sha256(work / name)} for name in names}
        (work / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    return final


def newest_whole(root: Path, say: Callable[[str], None]) -> Path | None:
    """The latest checkpoint whose files match its manifest; None if there is no checkpoint.

    `say` is called with a message for every damaged checkpoint.

    Raises:
        ValueError: all checkpoints are damaged; the run does not silently start from zero.
        OSError: the storage cannot be read.
    """
    found = sorted(root.glob(_FOLDERS), reverse=True)
    for checkpoint in found:
        if not (damage := find_damage(checkpoint)):
            return checkpoint
        say(f"checkpoint {checkpoint} is damaged ({damage}); trying the one before it")
    if found:
        raise ValueError(f"every checkpoint in {root} is damaged. Move the folder away to start from the beginning")
    return None


def find_damage(checkpoint: Path) -> str:
    """What is wrong with a checkpoint; empty if it is complete. `OSError` if the storage cannot be read."""
    try:
        manifest = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))
        for name in (_WEIGHTS, _OPTIMIZER, _STATE):
            size = (checkpoint / name).stat().st_size
            if size != manifest[name]["size"]:
                return f"{name} has {size} bytes instead of {manifest[name]['size']}"
            if _sha256(checkpoint / name) != manifest[name]["sha256"]:
                return f"{name} does not match its SHA-256"
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EIO):  # not damage: permissions, for example
            raise OSError(error.errno, f"{checkpoint} cannot be read: {error}. Fix that, then use --resume") from error
        return f"{type(error).__name__}: {error}"
    except (ValueError, KeyError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def read_state(checkpoint: Path) -> dict[str, Any]:
    """The `state` given to `save_checkpoint`, with `step`."""
    return json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))


def load_weights(checkpoint: Path, model: nn.Module) -> None:
    """Loads the saved weights into `model`, whose frozen ones are not saved."""
    missing, unexpected = model.load_state_dict(load_file(checkpoint / _WEIGHTS), strict=False)
    if unexpected or set(missing) - _frozen(model):
        wrong = [*unexpected, *sorted(set(missing) - _frozen(model))]
        raise ValueError(
            f"{checkpoint} has weights of another model, see {wrong[0]}: start a new run in another --output"
        )


def load_optimizer(checkpoint: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Loads the saved AdamW moments into `optimizer`, whose parameters must be those of `model`."""
    saved = load_file(checkpoint / _OPTIMIZER)
    for name, parameter in _trained(model):
        fields = {k.removeprefix(f"{name}|"): v for k, v in saved.items() if k.startswith(f"{name}|")}
        optimizer.state[parameter] = {
            k: v.to(parameter.device, v.dtype if k == "step" else parameter.dtype, copy=True)  # no view of the file
            for k, v in fields.items()
        }


def prune(root: Path, step: int, keep_last: int, best_step: int | None, say: Callable[[str], None] = print) -> None:
    """Removes all checkpoints except the last `keep_last` up to `step` and that of `best_step`.

    Checkpoints after `step` are removed too: they were damaged, and the run resumed from an earlier one. If a
    checkpoint cannot be removed, `say` gets a message and the run goes on.
    """
    found = sorted(root.glob(_FOLDERS))
    kept = [checkpoint for checkpoint in found if checkpoint <= folder(root, step)][-keep_last:]
    if best_step is not None:
        kept.append(folder(root, best_step))
    for other in found:
        if other not in kept:
            try:
                shutil.rmtree(other)
            except OSError as error:
                say(f"an old checkpoint could not be removed: {error}")


def remove_half_written(root: Path) -> None:
    """Removes temporary folders left by a kill: `runtime.signals` would wait for them as checkpoints being written."""
    for work in root.glob(UNFINISHED):
        remove(work)


def _flatten(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    states = ((name, optimizer.state.get(parameter, {})) for name, parameter in _trained(model))
    return {f"{name}|{k}": v.contiguous().cpu() for name, state in states for k, v in state.items()}


def _trained(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def _frozen(model: nn.Module) -> set[str]:
    """The names of the weights that are not trained; the run's first encoder has them."""
    return {name for name, parameter in model.named_parameters() if not parameter.requires_grad}


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
