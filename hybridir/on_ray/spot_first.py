"""Chooses the node type that Ray's autoscaler launches next: spot, unless AWS recently had none. See `cluster.yaml`.

Ray 2.60 has two autoscalers. The first remembers failed launches for 30 minutes, but by default chooses by fit alone.
The second (v2) has priorities, but lowers them only for instances that time out, not for launches that are refused: it
would ask for spot again and again. So `cluster.yaml` takes the first, with the function `score`.
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
    """The score of a node type; the highest is launched first; None if it fits no demand.

    Compared in this order: no GPU without a demand for one, available, named spot..., Ray's own fit.
    """
    fit = _default_utilization_scorer(
        node_resources, demands, node_type, node_availability_summary=node_availability_summary
    )
    if fit is None:
        return None
    seen = node_availability_summary.node_availabilities.get(node_type)
    return fit[0], seen is None or seen.is_available, node_type.startswith("spot"), *fit[1:]
