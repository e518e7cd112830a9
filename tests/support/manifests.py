"""Kubernetes manifests as kustomize builds them, and their validation."""

import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import kubernetes_validate
import pytest
import yaml

from deploy.local import REPOSITORY

Manifest = dict[str, Any]

PLACE = REPOSITORY / ".venv/kubernetes"
KUSTOMIZE = PLACE / "kustomize"

#: The folders of deploy/k8s that can be deployed.
FOLDERS = ("base", "production")

every_folder = pytest.mark.parametrize("folder", FOLDERS)

#: The oldest supported version of Kubernetes, and the newest version with a schema.
VERSIONS = ("1.30", "1.37")

#: The files that define the kinds of operators.
KINDS = {
    "Cluster": "postgresql.cnpg.io_clusters.yaml",
    "ScaledObject": "keda.sh_scaledobjects.yaml",
    "PodMonitor": "monitoring.coreos.com_podmonitors.yaml",
    "RabbitmqCluster": "rabbitmq.com_rabbitmqclusters.yaml",
}


@cache
def built(name: str) -> list[Manifest]:
    """Return the manifests of a folder of deploy/k8s; skips the test if kustomize is missing."""
    return build(path_of(name))


def build(folder: Path) -> list[Manifest]:
    """Return the manifests of a folder; skips the test if kustomize is missing."""
    if not KUSTOMIZE.exists():
        pytest.skip(
            "NOT RUN, there is no kustomize here: deploy/local/install.sh golang kubernetes"
        )
    done = subprocess.run(
        [str(KUSTOMIZE), "build", str(folder)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # kustomize prints deprecations as warnings.
    assert not done.stderr
    return list(yaml.safe_load_all(done.stdout))


def one(folder: str, kind: str, name: str) -> Manifest:
    """Return the manifest of a kind and a name."""
    (manifest,) = (m for m in built(folder) if m["kind"] == kind and m["metadata"]["name"] == name)
    return manifest


def objection(manifest: Manifest) -> str | None:
    """Return why a cluster would reject the manifest, such as an unknown field, or None."""
    if manifest["kind"] in KINDS:
        found = next(_validator(manifest["kind"]).iter_errors(manifest), None)
        return found and f"{'/'.join(map(str, found.instance_path))}: {found.message}"
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            return f"{'/'.join(map(str, error.path))}: {error.message}"
    return None


def has_schema(kind: str) -> bool:
    """Return whether the definition of the kind is installed."""
    return kind not in KINDS or (PLACE / "kinds" / KINDS[kind]).exists()


@cache
def _validator(kind: str) -> jsonschema_rs.Validator:
    definition = yaml.safe_load((PLACE / "kinds" / KINDS[kind]).read_text())
    (schema,) = (
        version["schema"]["openAPIV3Schema"]
        for version in definition["spec"]["versions"]
        if version["storage"]
    )
    # The `metadata` of all kinds is defined by Kubernetes.
    schema["properties"]["metadata"] = {}
    return jsonschema_rs.Draft7Validator(_strict(schema))


def _strict(schema: Any) -> Any:
    """Return a structural schema that rejects fields which a cluster would drop."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {name: _strict(part) for name, part in schema.items()}
    is_object = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    if is_object and not schema.get("x-kubernetes-preserve-unknown-fields"):
        strict.setdefault("additionalProperties", False)
    return strict


def pods(manifests: list[Manifest]) -> Iterator[tuple[Manifest, Manifest]]:
    """Yield each Deployment and Job with the template of its pods."""
    for manifest in manifests:
        if manifest["kind"] in ("Deployment", "Job"):
            yield manifest, manifest["spec"]["template"]


def settings_of(container: Manifest) -> dict[str, str]:
    """Return the settings in the environment of a container."""
    return {variable["name"]: variable["value"] for variable in container["env"]}


def path_of(place: str) -> Path:
    """Return a folder of deploy/k8s."""
    return REPOSITORY / "deploy/k8s" / place
