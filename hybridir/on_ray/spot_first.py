"""Which node type Ray's autoscaler launches next: spot, unless AWS just had none (`cluster.yaml` names this function).

Ray 2.60: the first autoscaler remembers for 30 minutes what could not be launched, but chooses by fit alone. The second
(v2) has priorities, but lowers them only for instances that time out, not where the launch itself is refused: it would
ask for spot again and again.
"""

from collections.abc import Mapping, Sequence

from ray.autoscaler._private.node_provider_availability_tracker import NodeAvailabilitySummary
from ray.autoscaler._private.resource_demand_scheduler import _default_utilization_scorer


def score(
    node_resources: Mapping[str, float],
    demands: Sequence[Mapping[str, float]],
    node_type: str,
    *,
    node_availability_summary: NodeAvailabilitySummary,
) -> tuple[bool | float, ...] | None:
    """Higher is launched first: no GPU for nothing, available, named spot..., Ray's own fit; None: it fits nothing."""
    fit = _default_utilization_scorer(
        node_resources, demands, node_type, node_availability_summary=node_availability_summary
    )
    if fit is None:
        return None
    seen = node_availability_summary.node_availabilities.get(node_type)
    return fit[0], seen is None or seen.is_available, node_type.startswith("spot"), *fit[1:]
