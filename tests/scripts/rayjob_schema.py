"""Makes tests/on_ray/rayjob_schema.json from KubeRay's CRD: python tests/scripts/rayjob_schema.py CRD.yaml

The CRD is `helm-chart/kuberay-operator/crds/ray.io_rayjobs.yaml` of https://github.com/ray-project/kuberay
(Apache-2.0), read at commit feeaf72facab4881ba2b179248bb67315634e229. It has 25,000 lines. Of each object that
jobs/configs/rayjob.yaml fills, the names of all fields are kept, so that an unknown field is found; no more.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
KEPT = ("type", "enum", "required", "pattern", "minimum", "maximum")


def pruned(schema: dict[str, Any], values: list[Any]) -> dict[str, Any]:
    """The schema as far as `values` need it."""
    found = {name: schema[name] for name in KEPT if name in schema}
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    if properties := schema.get("properties"):
        objects = [value for value in values if isinstance(value, dict)]
        filled = {name: [one[name] for one in objects if name in one] for name in properties}
        short = {name: pruned(properties[name], some) if some else {} for name, some in filled.items()}
        if objects:
            found |= {"properties": short, "additionalProperties": False}
    elif isinstance(more := schema.get("additionalProperties"), dict):
        inner = [value for one in values if isinstance(one, dict) for value in one.values()]
        found["additionalProperties"] = pruned(more, inner)
    if items := schema.get("items"):
        found["items"] = pruned(items, [value for one in values if isinstance(one, list) for value in one])
    return found


def main() -> None:
    crd = yaml.safe_load(Path(sys.argv[1]).read_text(encoding="utf-8"))
    job = next(yaml.safe_load_all((ROOT / "jobs" / "configs" / "rayjob.yaml").read_text(encoding="utf-8")))
    version = next(one for one in crd["spec"]["versions"] if one["name"] == "v1")
    schema = pruned(version["schema"]["openAPIV3Schema"], [job])
    schema["properties"]["metadata"] = {"type": "object"}  # Kubernetes checks it itself
    file = ROOT / "tests" / "on_ray" / "rayjob_schema.json"
    file.write_text(json.dumps(schema, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
