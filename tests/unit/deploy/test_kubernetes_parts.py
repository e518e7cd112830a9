"""On Kubernetes, a component runs the relays and workers that share the work of a service."""

import shutil
from pathlib import Path

import pytest

from deploy.k8s import division
from deploy.local.processes.parts import Division, changed, configured_division
from tests.support.keda import refusals
from tests.support.manifests import Manifest, build, objection, path_of, pods, settings_of

DIVIDED = Division(_env_file=None, parts="inventory=3,fraud=2", relays="order=2")


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    """The manifests of the production overlay with a divided queue and a divided outbox."""
    place = tmp_path_factory.mktemp("k8s")
    for folder in ("base", "production", "parts"):
        shutil.copytree(path_of(folder), place / folder)
    division.write(place / "parts", DIVIDED)
    return build(place / "production")


def _settings(manifests: list[Manifest], name: str) -> dict[str, str]:
    (pod,) = (template for owner, template in pods(manifests) if owner["metadata"]["name"] == name)
    (container,) = pod["spec"]["containers"]
    return settings_of(container)


def test_the_committed_component_matches_its_settings() -> None:
    files = division.component(configured_division(division.SETTINGS))

    committed = {path.name: path.read_text() for path in division.DIRECTORY.glob("*.yaml")}
    assert committed == files, "run: .venv/bin/python -m deploy.k8s"


def test_each_part_has_a_deployment(manifests: list[Manifest]) -> None:
    for part, name in enumerate(["inventory-worker", "inventory-worker-1", "inventory-worker-2"]):
        assert _settings(manifests, name).get("WORKER_PART", "0") == str(part)
    for part, name in enumerate(["order-relay", "order-relay-1"]):
        settings = _settings(manifests, name)
        assert (settings["RELAY_PART"], settings["RELAY_PARTS"]) == (str(part), "2")
    # And both commands that read the broker's queues know the number
    for name in ("console", "deploy"):
        assert _settings(manifests, name)["PARTS"] == "inventory=3,fraud=2"


def test_further_programs_have_the_settings_of_the_first(manifests: list[Manifest]) -> None:
    for program in changed(DIVIDED):
        if program.part:
            first, further = (_settings(manifests, n) for n in (program.shared, program.name))
            own = dict(program.settings)
            assert {n: v for n, v in further.items() if n not in own} == {
                n: v for n, v in first.items() if n not in own
            }


def test_the_overlay_applies_to_further_programs(manifests: list[Manifest]) -> None:
    for owner, template in pods(manifests):
        if owner["metadata"]["name"] in ("order-relay-1", "fraud-worker-1"):
            (container,) = template["spec"]["containers"]
            is_background = owner["metadata"]["name"] == "fraud-worker-1"
            assert container["resources"]["requests"]["cpu"] == ("50m" if is_background else "500m")
            assert container["image"] == "registry.example.com/orders:1.0"
            # The name of the map contains its content, so a changed setting rolls the pods.
            assert container["envFrom"][0]["configMapRef"]["name"].startswith("settings-")


def test_each_part_is_scaled_by_its_own_queue(manifests: list[Manifest]) -> None:
    for name, queue in (
        ("inventory-worker", "inventory.queue"),
        ("inventory-worker-2", "inventory.queue.2"),
    ):
        (scaled,) = (
            m["spec"]
            for m in manifests
            if (m["kind"], m["metadata"]["name"]) == ("ScaledObject", name)
        )
        assert scaled["scaleTargetRef"] == {"name": name}
        assert f'queue="{queue}"' in scaled["triggers"][0]["metadata"]["query"]


def test_a_cluster_accepts_the_divided_system(manifests: list[Manifest]) -> None:
    scaled = [manifest for manifest in manifests if manifest["kind"] == "ScaledObject"]

    assert [objection(m) for m in manifests if m["kind"] == "Deployment"] == [None] * sum(
        m["kind"] == "Deployment" for m in manifests
    )
    assert [refusals(manifest, manifests) for manifest in scaled] == [[] for _ in scaled]


def test_a_system_with_fewer_parts_has_no_old_files(tmp_path: Path) -> None:
    division.write(tmp_path, DIVIDED)
    division.write(tmp_path, Division(_env_file=None, parts="", relays=""))

    assert [path.name for path in tmp_path.iterdir()] == ["kustomization.yaml"]
