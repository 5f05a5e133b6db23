"""cluster.yaml is closed and without mistakes, mistakes planted in it are found, and spot falls back to on demand."""

import re
import subprocess
import sys
import tomllib
from functools import partial

import pytest
import yaml
from helpers import ROOT
from packaging.requirements import Requirement
from ray.autoscaler._private.constants import AUTOSCALER_UTILIZATION_SCORER_KEY
from ray.autoscaler._private.loader import load_function_or_class
from ray.autoscaler._private.node_provider_availability_tracker import NodeProviderAvailabilityTracker
from ray.autoscaler._private.resource_demand_scheduler import get_nodes_for
from ray.autoscaler.node_launch_exception import NodeLaunchException

from hybridir.on_ray.cluster_file import problems

TEXT = (ROOT / "cluster.yaml").read_text(encoding="utf-8")
FILLED = re.sub(r"(ami-|sg-|fs-)CHANGE-ME", r"\g<1>0123456789abcdef0", TEXT).replace(
    "{Name: CHANGE-ME}", "{Name: head}"
)
CONFIG = yaml.safe_load(FILLED)
TYPES = CONFIG["available_node_types"]


def test_filled_in_it_has_no_problem() -> None:
    assert problems(FILLED) == []


def test_what_is_the_users_is_asked_for() -> None:
    found = problems(TEXT)
    assert len(found) == 5  # image, security group, profile; the file system twice
    assert all(re.fullmatch(r"line \d+: still CHANGE-ME: fill in your own value", line) for line in found)
    command = [sys.executable, "-m", "hybridir.on_ray.cluster_file"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1
    assert found[0] in done.stdout


@pytest.mark.parametrize(
    ("written", "instead", "found"),
    [
        ("--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0", "0.0.0.0 is open to everyone"),
        ("--dashboard-host=127.0.0.1", "--dashboard-host=::", ":: is open to everyone"),
        ("--dashboard-host=127.0.0.1", "", "--dashboard-host=127.0.0.1 is missing"),
        ("--host 127.0.0.1", "--host 10.0.0.7", "a server on 10.0.0.7"),
        ("YOUR_ADDRESS/32", "0.0.0.0/0", "0.0.0.0 is open to everyone"),
        ("YOUR_ADDRESS/32", "::/0", ":: is open to everyone"),
        ("YOUR_ADDRESS/32", "128.0.0.0/1", "128.0.0.0/1 is open to 2147483648 addresses"),
        (
            "head_start_ray_commands",
            "worker_setup_commands",
            "head_start_ray_commands[1]: 0.0.0.0 is open",
        ),  # Ray's default
        ("  region:", "  security_group: {GroupName: mine}\n  region:", "takes SSH from anywhere"),
        ("      ImageId:", "      UserData: x\n      ImageId:", "UserData: it could open the node"),
        ("SecurityGroupIds: [", "SecurityGroupId: [", "without SecurityGroupIds Ray makes a group"),
        ("HttpTokens: required", "HttpTokens: optional", "HttpTokens: required is missing"),
        ("Encrypted: true", "Encrypted: false", "with Encrypted: true"),
        ("region: us-west-2", "region: eu-west-1", "the file system is in us-west-2, the cluster in eu-west-1"),
        ("export RAY_AUTH_MODE=token", "export", "without export RAY_AUTH_MODE=token"),
        ("export RAY_AUTH_MODE=token", "export RAY_AUTH_MODE=token RAY_AUTH_TOKEN=abc", "the file contains a token"),
        ("  ~/.ray/auth_token:", "  ~/.ray/other:", "~/.ray/auth_token is missing"),
        ("IamInstanceProfile: {Name: head}", "KeyName: mine", "without IamInstanceProfile Ray makes one"),
        ("min_workers: 0", "min_workers: 1", "1 nodes would run, and cost, when idle"),
        ("  spot:", "  cheap:", "a name begins with spot if the type is spot"),
        ("idle_timeout_minutes", "idle_timeout_minute", "'idle_timeout_minute' was unexpected"),  # Ray's own schema
        ("min_workers: 0", "min_worker: 0", "'min_worker' was unexpected"),
        ("type: aws", "type: gcp", "only aws is known here"),
        ("head_node_type: head", "head_node_type: heat", "`head_node_type` must be one of"),
        ("cluster_name:", "cluster_name: [", "Ray cannot read it"),
    ],
)
def test_planted_mistakes_are_found(written: str, instead: str, found: str) -> None:
    assert written in FILLED
    lines = problems(FILLED.replace(written, instead))
    assert any(found in line for line in lines), lines


def test_commands_are_shell_and_versions_those_of_the_project() -> None:
    commands = [command for key, value in CONFIG.items() if key.endswith("_commands") for command in value]
    for command in commands:
        subprocess.run(["bash", "-n", "-c", command], check=True)
    pinned = {
        name: version
        for command in commands
        for name, version in re.findall(r"([a-z]+)(?:\[\S+\])?==([\d.]+)", command)
    }
    wanted = [
        Requirement(r)
        for r in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    ]
    ranges = {r.name: r.specifier for r in wanted if r.name in pinned}
    assert set(ranges) == {"ray", "torch", "transformers"}
    assert all(pinned[name] in specifier for name, specifier in ranges.items())


def test_spot_is_launched_first_and_on_demand_when_there_is_none() -> None:
    (name,) = re.findall(rf"{AUTOSCALER_UTILIZATION_SCORER_KEY}=([\w.]+)", FILLED)
    now = 1000.0
    tracker = NodeProviderAvailabilityTracker(timer=lambda: now)

    def launched(demands: list[dict[str, int]]) -> dict[str, int]:
        scorer = partial(load_function_or_class(name), node_availability_summary=tracker.summary())
        nodes, _ = get_nodes_for(TYPES, {"head": 1}, "head", CONFIG["max_workers"], demands, scorer)
        return dict(nodes)

    demands = [{"CPU": 1, "GPU": 1}] * 3
    assert launched(demands) == {"spot": 3}
    assert launched([{"GPU": 1}] * 20) == {"spot": 8}  # max_workers
    tracker.update_node_availability(
        "spot", int(now), NodeLaunchException("InsufficientInstanceCapacity", "none", None)
    )
    assert launched(demands) == {"on_demand": 3}
    tracker.update_node_availability("on_demand", int(now), NodeLaunchException("VcpuLimitExceeded", "none", None))
    assert launched(demands) == {"spot": 3}
    now += 31 * 60  # the failures are forgotten
    assert launched(demands) == {"spot": 3}
    assert launched([{"TPU": 1}]) == {}
