"""Finds mistakes in a `cluster.yaml` before anything starts: `python -m hybridir.on_ray.cluster_file [FILE]`.

Ray's schema checks Ray's fields, not those of AWS, where a typo shows only when a node does not start, or never. Some
fields are refused on purpose, because they could open the cluster unseen by these checks: launch templates, network
interfaces, user data, and Ray's own security group, which allows SSH from anywhere.
"""

import difflib
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

FIELDS = {
    "provider": {"type", "region", "availability_zone", "cache_stopped_nodes", "use_internal_ips"},
    "node_config": {
        *("InstanceType", "ImageId", "KeyName", "SecurityGroupIds", "SubnetIds", "IamInstanceProfile"),
        *("MetadataOptions", "BlockDeviceMappings", "InstanceMarketOptions", "TagSpecifications"),
    },
    "IamInstanceProfile": {"Name", "Arn"},
    "MetadataOptions": {"HttpTokens", "HttpPutResponseHopLimit"},
    "BlockDeviceMappings": {"DeviceName", "Ebs"},
    "Ebs": {"VolumeSize", "VolumeType", "Encrypted", "DeleteOnTermination", "Iops", "Throughput", "KmsKeyId"},
    "InstanceMarketOptions": {"MarketType", "SpotOptions"},
}
"""Allowed fields by name of the object (a part of what EC2's RunInstances takes). Other objects are not checked."""
CPU_ONLY = {
    f"{family}.{n}xlarge" for family in ("c6i", "c7i", "m6i", "m7i", "r6i", "r7i") for n in ("", 2, 4, 8, 12, 16, 24)
}
GPUS = {
    **{f"{family}.{n}xlarge": 1 for family in ("g5", "g6", "g6e") for n in ("", 2, 4, 8, 16)},
    **{f"{family}.{n}xlarge": gpus for family in ("g5", "g6", "g6e") for n, gpus in ((12, 4), (24, 4), (48, 8))},
    **{"p4d.24xlarge": 8, "p4de.24xlarge": 8, "p5.48xlarge": 8, "p5e.48xlarge": 8, "p5en.48xlarge": 8},
}
"""Number of GPUs by instance type, for NVIDIA cards that the AMI's driver and torch support."""
IDS = {"ImageId": "ami", "SecurityGroupIds": "sg", "SubnetIds": "subnet"}
OPEN = re.compile(r"(?<![\d.])0\.0\.0\.0(?![\d.])|(?<![\w:.])::(?![\w:.])")
HOST = re.compile(r"--(?:dashboard-)?host[=\s]+(\S+)")


def problems(text: str) -> list[str]:
    """The mistakes in the text of a cluster.yaml for AWS: a line each, with the place of the field; empty if none."""
    try:
        config = yaml.safe_load(text)
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
        *_unknown("provider", "provider", prepared["provider"]),
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


def _unknown(place: str, name: str, value: Any) -> Iterator[str]:
    """Fields that FIELDS does not have, in the object (or list of objects) called `name`."""
    for inner in value if isinstance(value, list) else [value]:
        for key in inner if isinstance(inner, dict) and name in FIELDS else ():
            if key in FIELDS[name]:
                yield from _unknown(f"{place}.{key}", key, inner[key])
            else:
                close = difflib.get_close_matches(key, FIELDS[name], 1)
                yield f"{place}: {key} is not known" + (f", did you mean {close[0]}?" if close else "")


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
    if config["max_workers"] < 1:
        yield "max_workers: it must be at least 1, or there would be no worker"
    for name, kind in config["available_node_types"].items():
        place, node = f"available_node_types.{name}", kind["node_config"]
        yield from _unknown(f"{place}.node_config", "node_config", node)
        yield from (f"{place}.node_config.{what}" for what in _node(node))
        if kind["min_workers"]:
            yield f"{place}.min_workers: {kind['min_workers']} nodes would run, and cost, when idle: set it to 0"
        is_head, is_spot = name == config["head_node_type"], "InstanceMarketOptions" in node
        if is_spot and node["InstanceMarketOptions"].get("MarketType") != "spot":
            yield f"{place}.node_config.InstanceMarketOptions: MarketType must be spot; or remove InstanceMarketOptions"
        if is_spot != name.startswith("spot"):
            yield f"{place}: a name begins with spot if the type is spot, and only then (hybridir.on_ray.spot_first)"
        if is_head and (is_spot or kind["max_workers"]):
            yield f"{place}: the head must not be spot, and there is only one: set max_workers to 0"
        if is_head and "IamInstanceProfile" not in node:
            yield f"{place}.node_config: without IamInstanceProfile Ray makes one with all rights on EC2 and S3"
        has = _resources(str(node.get("InstanceType")))
        if has is None:
            yield f"{place}.node_config.InstanceType: {node.get('InstanceType')} is not known"
            continue
        if {"CPU": 0, "GPU": 0} | kind["resources"] != has:
            yield f"{place}.resources: {node['InstanceType']} has {has}, not {kind['resources']}"
        if is_head == bool(has["GPU"]):
            yield f"{place}: {node['InstanceType']} has {has['GPU']} GPUs; the head needs none, a worker at least one"
    workers = config["available_node_types"].keys() - {config["head_node_type"]}
    for market in (True, False):
        if not any(name.startswith("spot") is market for name in workers):
            yield f"available_node_types: no worker {'on spot' if market else 'on demand, for when there is no spot'}"


def _node(node: dict[str, Any]) -> Iterator[str]:
    """What is missing for a secure instance: valid ids, IMDSv2, encrypted disks."""
    for key, prefix in IDS.items():
        values = node.get(key, [] if key == "SubnetIds" else None)
        for value in values if isinstance(values, list) else [values]:
            if "CHANGE-ME" not in str(value) and not re.fullmatch(rf"{prefix}-[0-9a-f]{{8,17}}", str(value)):
                yield f"{key}: {value} is not an id like {prefix}-0123456789abcdef0"
    if node.get("MetadataOptions", {}).get("HttpTokens") != "required":
        yield "MetadataOptions: HttpTokens: required is missing (IMDSv2)"
    disks = node.get("BlockDeviceMappings", [])
    if not disks or any(disk.get("Ebs", {}).get("Encrypted") is not True for disk in disks):
        yield "BlockDeviceMappings: list every disk, with Encrypted: true"


def _resources(instance: str) -> dict[str, int] | None:
    """CPUs and GPUs of an instance type; None if it is not known. In all families, an N-xlarge has 4 N CPUs."""
    if instance not in CPU_ONLY and instance not in GPUS:
        return None
    size = instance.partition(".")[2].removesuffix("xlarge")
    return {"CPU": 4 * int(size or 1), "GPU": GPUS.get(instance, 0)}


def main() -> None:
    """Prints the mistakes in the file; exit code 1 if there are any."""
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "cluster.yaml")
    found = problems(path.read_text(encoding="utf-8"))
    print("\n".join(f"{path}: {line}" for line in found) or f"{path}: no mistakes found (AWS was not asked)")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
