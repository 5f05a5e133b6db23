"""Models of finished runs in MLflow's registry: a version each; the best by validation has the alias `champion`."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybridir.evaluation.validation_metrics import METRICS
from hybridir.runtime.secrets import without_secrets
from hybridir.tracking.target import patience

CHAMPION = "champion"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A trained model that is to be registered.

    Attributes:
        name: name of the registered model.
        folder: folder with the model's files.
        run_id: id of the model's run in MLflow.
        experiment: id of the MLflow experiment of that run.
        key: the run's own key (tag `hybridir.key`).
        validation: `metric`, `value`, `step`, `data` (hash of validation data and plan), `of` (name of the data); may
            lack some.
        fingerprint: fingerprint of the training data.
    """

    name: str
    folder: Path
    run_id: str
    experiment: str
    key: str
    validation: dict[str, Any]
    fingerprint: str

    def tags(self) -> dict[str, str]:
        found = {
            f"validation.{name}": self.validation.get(name, "") for name in ("metric", "value", "step", "data", "of")
        }
        found |= {"hybridir.key": self.key, "data.fingerprint": self.fingerprint}
        return {name: without_secrets(str(value)) for name, value in found.items()}


def register(client: Any, candidate: Candidate) -> str:
    """Registers the model as a version, unless it is one already, and makes it `champion` if it is the best.

    Another version is made if a resumed run found a better step, or resumed tuning another winner. Returns a message.
    """
    _make_registered_model(client, candidate.name)
    version = _find_version(client, candidate)
    if not version:
        model = _upload(client, candidate)
        version = client.create_model_version(
            candidate.name,
            source=model.artifact_location,
            run_id=candidate.run_id,
            tags=candidate.tags(),
            description=_description(candidate.tags()),
            model_id=model.model_id,
        )
    aliases = client.get_registered_model(candidate.name).aliases
    champion = client.get_model_version(candidate.name, aliases[CHAMPION]) if CHAMPION in aliases else None
    label = f"model {candidate.name}, version {version.version}"
    if champion and str(champion.version) == str(version.version):
        return f"{label}, is the {CHAMPION}{_for(version.tags)}"
    if reason := _why_not(version.tags, champion):
        return f"{label}: {reason}"
    client.set_registered_model_alias(candidate.name, CHAMPION, version.version)
    return f"{label}, is the {CHAMPION} now{_for(version.tags)}"


def _why_not(tags: dict[str, str], champion: Any) -> str:
    """Why a version with these tags does not become champion; empty if it does."""
    new = _value(tags)
    if new is None:
        return f"results.json has no validation value that is a number, so the model cannot become {CHAMPION}"
    old = _value(champion.tags) if champion else None
    if old is None:
        return ""
    stays = f"version {champion.version} stays {CHAMPION}"
    for name in ("metric", "data"):
        if champion.tags.get(f"validation.{name}") != tags[f"validation.{name}"]:
            return f"{stays}{_for(champion.tags)}: its validation {name} is not the same, so the two cannot be compared"
    metric = tags["validation.metric"]
    better = new < old if METRICS[metric.rpartition(".")[2]].lower_is_better else new > old
    return "" if better else f"{stays}, with {metric} {old:.4f} against {new:.4f}"


def _for(tags: dict[str, str]) -> str:
    """For which validation pairs a version is the champion, if its tags say so."""
    return f" (by {tags['validation.metric']} on the validation pairs of {tags['validation.of']})" * bool(
        tags.get("validation.of")
    )


def _value(tags: dict[str, str]) -> float | None:
    """The validation value, if it is a finite number."""
    try:
        value = float(tags.get("validation.value", ""))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _description(tags: dict[str, str]) -> str:
    found = f"{tags['validation.metric']} {tags['validation.value']} at step {tags['validation.step']}".strip()
    return f"{found}, on validation pairs of {tags['validation.of']}" if tags["validation.of"] else found


def _make_registered_model(client: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _find_version(client: Any, candidate: Candidate) -> Any:
    mine = client.search_model_versions(f"name = '{candidate.name}' and tags.`hybridir.key` = '{candidate.key}'")
    return next((one for one in mine if _is_of(one.tags, candidate)), None)


def _is_of(tags: dict[str, str], candidate: Candidate) -> bool:
    """Whether the tags have the candidate's step and value; after resumed tuning, the winner may be another run."""
    own = candidate.tags()
    return all(tags.get(name, "") == own[name] for name in ("validation.step", "validation.value"))


def _upload(client: Any, candidate: Candidate) -> Any:
    """Uploads the files as a logged model of the run, or completes an upload that was interrupted."""
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    tags = candidate.tags()
    begun = client.search_logged_models([candidate.experiment], f"source_run_id = '{candidate.run_id}'")
    same = [one for one in begun if _is_of(one.tags, candidate)]
    model = (
        same[0]
        if same
        else client.create_logged_model(
            candidate.experiment, name="model", source_run_id=candidate.run_id, tags=tags, model_type="retriever"
        )
    )
    if model.status != LoggedModelStatus.READY:
        with patience():
            client.log_model_artifacts(model.model_id, str(candidate.folder))
        model = client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    outputs = client.get_run(candidate.run_id).outputs
    if model.model_id not in {one.model_id for one in (outputs.model_outputs if outputs else [])}:
        step = int(candidate.validation.get("step") or 0)
        client.log_outputs(candidate.run_id, [LoggedModelOutput(model.model_id, step)])
    return model
