"""The rules of KEDA's admission webhook, from its source.

The source is `apis/keda/v1alpha1/scaledobject_webhook.go` and `scaledobject_types.go` of version
2.16, which is stricter: since 2.18, one trigger of the right type is enough for a fallback.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from tests.support.manifests import Manifest

#: Triggers that KEDA delegates to Kubernetes.
_RESOURCES = ("cpu", "memory")


def refusals(scaled: Manifest, manifests: Sequence[Manifest]) -> list[str]:
    """Return the reasons for which the webhook would reject a ScaledObject."""
    return [
        *_fallback(scaled["spec"]),
        *_replicas(scaled["spec"]),
        *_triggers(scaled["spec"]),
        *_requests(scaled["spec"], manifests),
        *_shared(scaled, manifests),
    ]


def _fallback(spec: Manifest) -> Iterator[str]:
    fallback = spec.get("fallback")
    if fallback is None:
        return
    if fallback["failureThreshold"] < 0 or fallback["replicas"] < 0:
        yield "FailureThreshold and Replicas must both be greater than or equal to 0"
    for scaler in spec["triggers"]:
        if scaler["type"] in _RESOURCES:
            yield "fallback is not supported by the CPU and memory scalers"
        elif scaler.get("metricType", "AverageValue") != "AverageValue":
            yield "fallback can only be enabled for triggers with metric of type AverageValue"


def _replicas(spec: Manifest) -> Iterator[str]:
    least, most = spec.get("minReplicaCount", 0), spec.get("maxReplicaCount", 100)
    if least > most:
        yield f"MinReplicaCount={least} must be less than MaxReplicaCount={most}"
    if least == 0 and all(scaler["type"] in _RESOURCES for scaler in spec["triggers"]):
        yield "scaledobject has only cpu/memory triggers AND minReplica is 0"


def _triggers(spec: Manifest) -> Iterator[str]:
    if not spec["triggers"]:
        yield "no triggers defined"
    for scaler in spec["triggers"]:
        if scaler.get("useCachedMetrics") and scaler["type"] in (*_RESOURCES, "cron"):
            yield f"useCachedMetrics is not supported for {scaler['type']}"
    names = Counter(scaler["name"] for scaler in spec["triggers"] if scaler.get("name"))
    yield from (
        f"triggerName {name} is defined multiple times" for name in names if names[name] > 1
    )


def _requests(spec: Manifest, manifests: Sequence[Manifest]) -> Iterator[str]:
    name = spec["scaleTargetRef"]["name"]
    (target,) = (
        m for m in manifests if m["kind"] == "Deployment" and m["metadata"]["name"] == name
    )
    kinds = {scaler["type"] for scaler in spec["triggers"]} & set(_RESOURCES)
    for container in target["spec"]["template"]["spec"]["containers"]:
        resources = container.get("resources", {})
        for kind in kinds:
            if not any(kind in resources.get(part, {}) for part in ("requests", "limits")):
                yield f"container {container['name']} has no {kind} request"


def _shared(scaled: Manifest, manifests: Sequence[Manifest]) -> Iterator[str]:
    targets = Counter(
        m["spec"]["scaleTargetRef"]["name"] for m in manifests if m["kind"] == "ScaledObject"
    )
    name = scaled["spec"]["scaleTargetRef"]["name"]
    if targets[name] > 1:
        yield f"the workload {name} is already managed by another ScaledObject"
