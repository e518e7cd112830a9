"""The catalogue of a system's contracts: its event types, their versions, and the subject.

A process has one catalogue, set by `use` when the module with the contracts is imported. The wire
format, the versions and the log fields are derived from it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from eventbus.events.envelope import EventData

Convert = Callable[[Any], EventData]


@dataclass(frozen=True, kw_only=True)
class Version:
    """Two successive versions of one fact, with the conversions between them.

    Both conversions are total: data that is valid in one version is valid in the other, and is
    unchanged after both conversions.
    """

    old: type[EventData]
    new: type[EventData]
    upcast: Convert
    downcast: Convert


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """The contracts of one system.

    `namespace` is part of each schema's URI: `urn:<namespace>:event:<type>`. `subject` is the kind
    of entity that events are about: for `order`, log lines have the field `order_id` and spans the
    attribute `order.id`.
    """

    namespace: str
    subject: str
    contracts: tuple[type[EventData], ...]
    versions: tuple[Version, ...] = ()

    @cached_property
    def by_type(self) -> Mapping[str, type[EventData]]:
        """Each event type's contract."""
        return {contract.TYPE: contract for contract in self.contracts}

    @cached_property
    def upcasts(self) -> Mapping[type[EventData], Convert]:
        """Each contract's conversion to the next version."""
        return {version.old: version.upcast for version in self.versions}

    @cached_property
    def downcasts(self) -> Mapping[type[EventData], Convert]:
        """Each contract's conversion to the previous version."""
        return {version.new: version.downcast for version in self.versions}

    @cached_property
    def newest(self) -> frozenset[type[EventData]]:
        """The contracts without a newer version."""
        return frozenset(self.contracts) - self.upcasts.keys()

    @cached_property
    def facts(self) -> Mapping[str, tuple[str, ...]]:
        """The types of all versions of each event type's fact, oldest first."""
        successors = {version.old: version.new for version in self.versions}
        facts: dict[str, tuple[str, ...]] = {}
        for contract in self.contracts:
            if contract in self.downcasts:
                continue
            types = [contract.TYPE]
            while contract in successors:
                contract = successors[contract]
                types.append(contract.TYPE)
            facts.update(dict.fromkeys(types, tuple(types)))
        return facts

    @property
    def id_field(self) -> str:
        """The log field with a subject's id, such as `order_id`."""
        return f"{self.subject}_id"

    @property
    def id_attribute(self) -> str:
        """The span attribute with a subject's id, such as `order.id`."""
        return f"{self.subject}.id"


_current: list[Catalogue] = []


def use(catalogue: Catalogue) -> Catalogue:
    """Set the catalogue of this process, and return it.

    Raises `RuntimeError` if the process already has another catalogue.
    """
    if _current and _current[0] != catalogue:
        raise RuntimeError("this process already has another catalogue")
    _current[:] = [catalogue]
    return catalogue


def current() -> Catalogue:
    """Return the catalogue of this process.

    Raises `RuntimeError` if no module that defines contracts was imported.
    """
    if not _current:
        raise RuntimeError("no catalogue: import the module that defines the contracts")
    return _current[0]
