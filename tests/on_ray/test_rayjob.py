"""jobs/configs/rayjob.yaml: the fields are those of KubeRay's schema, and it is closed to others."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from helpers import ROOT

SCHEMA = json.loads((Path(__file__).parent / "rayjob_schema.json").read_text(encoding="utf-8"))
JOB, POLICY = yaml.safe_load_all((ROOT / "jobs" / "configs" / "rayjob.yaml").read_text(encoding="utf-8"))


def pods() -> Iterator[dict[str, Any]]:
    cluster = JOB["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        yield group["template"]["spec"]


def test_it_fits_the_schema_of_the_operator() -> None:
    jsonschema.validate(JOB, SCHEMA)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("spec", "shutdownAfterJobFinish"), True),
        (("spec", "submissionMode"), 7),
        (("spec", "rayClusterSpec", "headGroupSpec", "rayStartParam"), {}),
        (("spec", "rayClusterSpec", "workerGroupSpecs", 0, "maxReplica"), 4),
        (("spec", "rayClusterSpec", "workerGroupSpecs", 0, "template", "spec", "container"), []),
        (("spec", "rayClusterSpec", "authOptions", "mode"), "tokens"),
        (("spec", "rayClusterSpec", "headGroupSpec", "rayStartParams", "num-cpus"), 0),
    ],
)
def test_mistakes_do_not_fit(place: tuple[Any, ...], value: Any) -> None:
    job = copy.deepcopy(JOB)
    inner = job
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(job, SCHEMA)


def test_it_is_closed_to_others() -> None:
    cluster = JOB["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert POLICY["spec"]["policyTypes"] == ["Ingress"]
    assert all(rule["from"] for rule in POLICY["spec"]["ingress"])
    for pod in pods():
        assert "hostNetwork" not in pod
        assert pod["securityContext"]["runAsNonRoot"]
        for container in pod["containers"]:
            rights = container["securityContext"]
            assert rights == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert [pod["automountServiceAccountToken"] for pod in pods()] == [True, False]


def test_it_costs_nothing_when_done_and_says_that_it_was_never_run() -> None:
    assert JOB["spec"]["shutdownAfterJobFinishes"]
    assert JOB["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["minReplicas"] == 0
    assert "never run" in (ROOT / "jobs" / "configs" / "rayjob.yaml").read_text(encoding="utf-8")
