"""Mistakes in a `cluster.yaml`, found before anything starts: `python -m hybridir.on_ray.cluster_file [FILE]`.

Ray's schema knows its own fields, not those of AWS, where a typo is found by a node that does not start, or not at all.
Fields that could open something out of sight of these checks (launch templates, network interfaces, user data, Ray's
own security group, which takes SSH from anywhere) are not known here on purpose.
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
"""By the name of the object: its fields. Those of EC2 are a part of RunInstances'. Objects not named here go unread."""
CPU_ONLY = {
    f"{family}.{n}xlarge" for family in ("c6i", "c7i", "m6i", "m7i", "r6i", "r7i") for n in ("", 2, 4, 8, 12, 16, 24)
}
GPUS = {
    **{f"{family}.{n}xlarge": 1 for family in ("g5", "g6", "g6e") for n in ("", 2, 4, 8, 16)},
    **{f"{family}.{n}xlarge": gpus for family in ("g5", "g6", "g6e") for n, gpus in ((12, 4), (24, 4), (48, 8))},
    **{"p4d.24xlarge": 8, "p4de.24xlarge": 8, "p5.48xlarge": 8, "p5e.48xlarge": 8, "p5en.48xlarge": 8},
}
"""GPUs of the instance types with NVIDIA cards that the AMI's driver and torch support."""
IDS = {"ImageId": "ami", "SecurityGroupIds": "sg", "SubnetIds": "subnet"}
OPEN = re.compile(r"(?<![\d.])0\.0\.0\.0(?![\d.])|(?<![\w:.])::(?![\w:.])")
HOST = re.compile(r"--(?:dashboard-)?host[=\s]+(\S+)")


def problems(text: str) -> list[str]:
    """What is wrong in the text of a cluster.yaml for AWS, one line each with the field's place; empty: nothing."""
    try:
        config = yaml.safe_load(text)
        if not isinstance(config, dict) or (config.get("provider") or {}).get("type") != "aws":
            return ["provider.type: only aws is known here"]
        with redirect_stdout(io.StringIO()):  # hints on docker
            prepared = prepare_config(config)  # with Ray's defaults for all that is left out
        validate_config(prepared | {"cluster_synced_files": []})
    except jsonschema.ValidationError as error:
        return [f"{error.json_path.removeprefix('$.')}: {error.message}"]
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError) as error:
        return [f"Ray cannot read it: {type(error).__name__}: {error}"]
    lines = [(f"line {n}", *line.partition("#")[::2]) for n, line in enumerate(text.splitlines(), 1)]
    strings = [*_strings("", prepared), *((place, comment) for place, _, comment in lines)]
    return [
        *(f"{place}: {what}" for place, value in strings for what in _opens(value)),
        *(f"{place}: still CHANGE-ME, put your own there" for place, value, _ in lines if "CHANGE-ME" in value),
        *_unknown("provider", "provider", prepared["provider"]),
        *_commands(prepared),
        *_nodes(prepared),
    ]


def _strings(place: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if not (place == "" and key == "setup_commands"):  # stand in those of head and workers, too
                yield from _strings(f"{place}.{key}".lstrip("."), inner)
    elif isinstance(value, list):
        for n, inner in enumerate(value):
            yield from _strings(f"{place}[{n}]", inner)
    elif isinstance(value, str):
        yield place, value


def _opens(value: str) -> Iterator[str]:
    """What in a string is open to the world."""
    if found := OPEN.search(value):
        yield f"{found[0]} is open to everyone: 127.0.0.1, or your own address"
    for host in HOST.findall(value):
        if host not in ("127.0.0.1", "localhost") and not OPEN.search(host):
            yield f"a server on {host}: bind it to 127.0.0.1"
    for cidr in re.findall(r"[0-9A-Fa-f:.]+/\d{1,3}\b", value):
        try:
            network = ipaddress.ip_network(cidr, strict=False)
        except ValueError:
            continue
        if network.prefixlen < (16 if network.version == 4 else 32):
            yield f"{cidr} is open to {network.num_addresses} addresses: name your own"


def _unknown(place: str, name: str, value: Any) -> Iterator[str]:
    """Fields that are not in FIELDS, inside the object or the list of objects called `name`."""
    for inner in value if isinstance(value, list) else [value]:
        for key in inner if isinstance(inner, dict) and name in FIELDS else ():
            if key in FIELDS[name]:
                yield from _unknown(f"{place}.{key}", key, inner[key])
            else:
                close = difflib.get_close_matches(key, FIELDS[name], 1)
                yield f"{place}: {key} is not known" + (f", is it {close[0]}?" if close else "")


def _commands(config: dict[str, Any]) -> Iterator[str]:
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        start = " ".join(command for command in config[key] if "ray start" in command)
        if not re.search(r"export [^;]*\bRAY_AUTH_MODE=token\b", start):
            yield f"{key}: without export RAY_AUTH_MODE=token anyone in the network can run jobs"
        if key.startswith("head") and "--dashboard-host=127.0.0.1" not in start:
            yield f"{key}: --dashboard-host=127.0.0.1 is missing"
    if "~/.ray/auth_token" not in config["file_mounts"]:
        yield "file_mounts: ~/.ray/auth_token is missing, so that the nodes do not share a token"
    for place, value in _strings("", config):
        if "RAY_AUTH_TOKEN=" in value:
            yield f"{place}: a token stands in the file; it comes by file_mounts"
        for region in re.findall(r"\.efs\.([\w-]+)\.", value):
            if region != config["provider"].get("region"):
                yield f"{place}: the file system is in {region}, the cluster in {config['provider'].get('region')}"


def _nodes(config: dict[str, Any]) -> Iterator[str]:
    if config["max_workers"] < 1:
        yield "max_workers: there would be no worker"
    for name, kind in config["available_node_types"].items():
        place, node = f"available_node_types.{name}", kind["node_config"]
        yield from _unknown(f"{place}.node_config", "node_config", node)
        yield from (f"{place}.node_config.{what}" for what in _node(node))
        if kind["min_workers"]:
            yield f"{place}.min_workers: {kind['min_workers']} nodes would run, and cost, when idle: 0"
        is_head, is_spot = name == config["head_node_type"], "InstanceMarketOptions" in node
        if is_spot and node["InstanceMarketOptions"].get("MarketType") != "spot":
            yield f"{place}.node_config.InstanceMarketOptions: MarketType is spot, or leave it out"
        if is_spot != name.startswith("spot"):
            yield f"{place}: a node type is called spot... if it is one, for hybridir.on_ray.spot_first"
        if is_head and (is_spot or kind["max_workers"]):
            yield f"{place}: the head is not to be spot, and only one: max_workers 0"
        if is_head and "IamInstanceProfile" not in node:
            yield f"{place}.node_config: without IamInstanceProfile Ray makes one with all rights on EC2 and S3"
        has = _resources(str(node.get("InstanceType")))
        if has is None:
            yield f"{place}.node_config.InstanceType: {node.get('InstanceType')} is not known"
            continue
        if {"CPU": 0, "GPU": 0} | kind["resources"] != has:
            yield f"{place}.resources: {node['InstanceType']} has {has}, not {kind['resources']}"
        if is_head == bool(has["GPU"]):
            yield f"{place}: {node['InstanceType']} has {has['GPU']} GPUs; the head needs none, each worker some"
    workers = config["available_node_types"].keys() - {config["head_node_type"]}
    for market in (True, False):
        if not any(name.startswith("spot") is market for name in workers):
            yield f"available_node_types: no worker {'on spot' if market else 'on demand, for when there is no spot'}"


def _node(node: dict[str, Any]) -> Iterator[str]:
    """What an instance lacks to be closed."""
    for key, prefix in IDS.items():
        values = node.get(key, [] if key == "SubnetIds" else None)
        for value in values if isinstance(values, list) else [values]:
            if "CHANGE-ME" not in str(value) and not re.fullmatch(rf"{prefix}-[0-9a-f]{{8,17}}", str(value)):
                yield f"{key}: {value} is not an id like {prefix}-0123456789abcdef0"
    if node.get("MetadataOptions", {}).get("HttpTokens") != "required":
        yield "MetadataOptions: HttpTokens: required is missing (IMDSv2)"
    disks = node.get("BlockDeviceMappings", [])
    if not disks or any(disk.get("Ebs", {}).get("Encrypted") is not True for disk in disks):
        yield "BlockDeviceMappings: every disk is to be named, with Encrypted: true"


def _resources(instance: str) -> dict[str, int] | None:
    """CPUs and GPUs of an instance type; None for one that is not known. An N-xlarge has 4 N CPUs in all families."""
    if instance not in CPU_ONLY and instance not in GPUS:
        return None
    size = instance.partition(".")[2].removesuffix("xlarge")
    return {"CPU": 4 * int(size or 1), "GPU": GPUS.get(instance, 0)}


def main() -> None:
    """Prints what is wrong with the file; exit code 1 if anything is."""
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "cluster.yaml")
    found = problems(path.read_text(encoding="utf-8"))
    print("\n".join(f"{path}: {line}" for line in found) or f"{path}: nothing found (AWS was not asked)")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
