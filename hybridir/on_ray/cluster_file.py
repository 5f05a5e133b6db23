"""Finds mistakes in a `cluster.yaml` before anything starts: `python -m hybridir.on_ray.cluster_file [FILE]`.

It checks Ray's schema, values that are still CHANGE-ME, and whatever is open to others. Names and types of EC2's own
fields are not checked: a typo there shows when a node starts.
"""

import io
import ipaddress
import re
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from hybridir.runtime.plain_yaml import load_yaml

HIDING = {"LaunchTemplate", "NetworkInterfaces", "UserData"}
"""Fields of EC2 whose contents are not looked into here."""
OPEN = re.compile(r"(?<![\d.])0\.0\.0\.0(?![\d.])|(?<![\w:.])::(?![\w:.])")
HOST = re.compile(r"--(?:dashboard-)?host[=\s]+(\S+)")


def problems(text: str) -> list[str]:
    """The mistakes in the text of a cluster.yaml for AWS: a line each, with the place of the field; empty if none."""
    try:
        config = load_yaml(text)
        if not isinstance(config, dict) or (config.get("provider") or {}).get("type") != "aws":
            return ["provider.type: only aws is known here"]
        with redirect_stdout(io.StringIO()):  # hints about Docker
            prepared = prepare_config(config)  # adds Ray's defaults
        validate_config(prepared | {"cluster_synced_files": []})
    except jsonschema.ValidationError as error:
        return [f"{error.json_path.removeprefix('$.')}: {error.message}"]
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError) as error:
        return [f"Ray cannot read it: {type(error).__name__}: {error}"]
    lines = [(f"line {n}", *line.partition("#")[::2]) for n, line in enumerate(text.splitlines(), 1)]
    strings = [*_strings("", prepared), *((place, comment) for place, _, comment in lines)]
    return [
        *(f"{place}: {what}" for place, value in strings for what in _opens(value)),
        *(f"{place}: still CHANGE-ME: fill in your own value" for place, value, _ in lines if "CHANGE-ME" in value),
        *_commands(prepared),
        *_nodes(prepared),
    ]


def _strings(place: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if not (place == "" and key == "setup_commands"):  # Ray repeats them for head and workers
                yield from _strings(f"{place}.{key}".lstrip("."), inner)
    elif isinstance(value, list):
        for n, inner in enumerate(value):
            yield from _strings(f"{place}[{n}]", inner)
    elif isinstance(value, str):
        yield place, value


def _opens(value: str) -> Iterator[str]:
    """Addresses in a string that are open to the world."""
    if found := OPEN.search(value):
        yield f"{found[0]} is open to everyone: use 127.0.0.1, or your own address"
    for host in HOST.findall(value):
        if host not in ("127.0.0.1", "localhost") and not OPEN.search(host):
            yield f"a server on {host}: bind it to 127.0.0.1"
    for cidr in re.findall(r"[0-9A-Fa-f:.]+/\d{1,3}\b", value):
        try:
            network = ipaddress.ip_network(cidr, strict=False)
        except ValueError:
            continue
        if network.prefixlen < (16 if network.version == 4 else 32):
            yield f"{cidr} is open to {network.num_addresses} addresses: use your own"


def _commands(config: dict[str, Any]) -> Iterator[str]:
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        start = " ".join(command for command in config[key] if "ray start" in command)
        if not re.search(r"export [^;]*\bRAY_AUTH_MODE=token\b", start):
            yield f"{key}: without export RAY_AUTH_MODE=token anyone in the network can run jobs"
        if key.startswith("head") and "--dashboard-host=127.0.0.1" not in start:
            yield f"{key}: --dashboard-host=127.0.0.1 is missing"
    if "~/.ray/auth_token" not in config["file_mounts"]:
        yield "file_mounts: ~/.ray/auth_token is missing: the nodes would not share a token"
    for place, value in _strings("", config):
        if "RAY_AUTH_TOKEN=" in value:
            yield f"{place}: the file contains a token: remove it, file_mounts brings it to the nodes"
        for region in re.findall(r"\.efs\.([\w-]+)\.", value):
            if region != config["provider"].get("region"):
                yield f"{place}: the file system is in {region}, the cluster in {config['provider'].get('region')}"


def _nodes(config: dict[str, Any]) -> Iterator[str]:
    """What leaves a node open, or running when nothing needs it, and what `spot_first` relies on."""
    if "security_group" in config["provider"]:
        yield "provider.security_group: Ray makes one that takes SSH from anywhere: leave it out"
    for name, kind in config["available_node_types"].items():
        place, node = f"available_node_types.{name}", kind["node_config"]
        if (node.get("MetadataOptions") or {}).get("HttpTokens") != "required":
            yield f"{place}.node_config.MetadataOptions: HttpTokens: required is missing (IMDSv2)"
        disks = node.get("BlockDeviceMappings") or []
        if not disks or any((disk.get("Ebs") or {}).get("Encrypted") is not True for disk in disks):
            yield f"{place}.node_config.BlockDeviceMappings: list every disk, with Encrypted: true"
        for field in HIDING & node.keys():
            yield f"{place}.node_config.{field}: it could open the node unseen by these checks: leave it out"
        if not node.get("SecurityGroupIds"):
            yield f"{place}.node_config: without SecurityGroupIds Ray makes a group that takes SSH from anywhere"
        if name == config["head_node_type"] and "IamInstanceProfile" not in node:
            yield f"{place}.node_config: without IamInstanceProfile Ray makes one with all rights on EC2 and S3"
        if kind["min_workers"]:
            yield f"{place}.min_workers: {kind['min_workers']} nodes would run, and cost, when idle: set 0"
        if ("InstanceMarketOptions" in node) != name.startswith("spot"):
            yield f"{place}: a name begins with spot if the type is spot, for hybridir.on_ray.spot_first"


def main() -> None:
    """Prints the mistakes in the file; exit code 1 if there are any."""
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "cluster.yaml")
    found = problems(path.read_text(encoding="utf-8"))
    print("\n".join(f"{path}: {line}" for line in found) or f"{path}: no mistakes found (AWS was not asked)")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
