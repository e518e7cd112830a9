"""A cluster accepts every manifest, and rejects one with a mistake."""

import copy
from collections.abc import Callable

import pytest

from tests.support.manifests import (
    Manifest,
    built,
    every_folder,
    has_schema,
    objection,
)


@every_folder
def test_every_manifest_is_valid(folder: str) -> None:
    objections = {
        f"{manifest['kind']} {manifest['metadata']['name']}": objection(manifest)
        for manifest in built(folder)
        if has_schema(manifest["kind"])
    }

    assert {name: message for name, message in objections.items() if message} == {}


def _unknown_field(manifest: Manifest) -> None:
    manifest["spec"]["replica"] = 3


def _wrong_type(manifest: Manifest) -> None:
    spec = manifest["spec"]
    numbers = {name: "many" for name, value in spec.items() if isinstance(value, int)}
    spec |= numbers or {name: "many" for name, value in spec.items() if not isinstance(value, str)}


def _misspelt_in_a_pod(manifest: Manifest) -> None:
    container = manifest["spec"]["template"]["spec"]["containers"][0]
    container["securityContext"]["readOnlyRootFileSystem"] = True


def _wrong_choice(manifest: Manifest) -> None:
    manifest["spec"]["primaryUpdateStrategy"] = "sometimes"


def _too_few(manifest: Manifest) -> None:
    manifest["spec"]["instances"] = 0


def _missing(manifest: Manifest) -> None:
    del manifest["spec"]["scaleTargetRef"]


@pytest.mark.parametrize(
    ("kind", "break_it"),
    [
        *(
            (kind, break_it)
            for kind in (
                *("Deployment", "NetworkPolicy", "Cluster", "ScaledObject", "PodMonitor"),
                "RabbitmqCluster",
            )
            for break_it in (_unknown_field, _wrong_type)
        ),
        ("Deployment", _misspelt_in_a_pod),
        ("Job", _misspelt_in_a_pod),
        ("Cluster", _wrong_choice),
        ("Cluster", _too_few),
        ("ScaledObject", _missing),
    ],
    ids=lambda p: p if isinstance(p, str) else p.__name__.strip("_"),
)
def test_a_broken_manifest_is_rejected(kind: str, break_it: Callable[[Manifest], None]) -> None:
    # Given a valid manifest
    sound = next(manifest for manifest in built("base") if manifest["kind"] == kind)
    broken = copy.deepcopy(sound)

    # When a mistake is added
    break_it(broken)

    # Then only the copy is rejected
    assert broken != sound
    assert objection(sound) is None
    assert objection(broken)
