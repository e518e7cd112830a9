"""The catalogue of a process: one for all modules, with the versions of each fact in order."""

from dataclasses import dataclass
from typing import ClassVar

import pytest

from common.events import CATALOGUE
from eventbus.events import catalogue
from eventbus.events.catalogue import Catalogue, Version


@dataclass(frozen=True)
class First:
    TYPE: ClassVar[str] = "loan.made"


@dataclass(frozen=True)
class Second:
    TYPE: ClassVar[str] = "loan.made.v2"


@dataclass(frozen=True)
class Third:
    TYPE: ClassVar[str] = "loan.made.v3"


@dataclass(frozen=True)
class Other:
    TYPE: ClassVar[str] = "loan.ended"


LOANS = Catalogue(
    namespace="lending",
    subject="loan",
    # In any order: the versions are derived from their conversions.
    contracts=(Third, Other, First, Second),
    versions=(
        Version(old=Second, new=Third, upcast=lambda _: Third(), downcast=lambda _: Second()),
        Version(old=First, new=Second, upcast=lambda _: Second(), downcast=lambda _: First()),
    ),
)


def test_a_fact_has_its_versions_oldest_first() -> None:
    made = ("loan.made", "loan.made.v2", "loan.made.v3")

    assert LOANS.facts == {**dict.fromkeys(made, made), "loan.ended": ("loan.ended",)}
    assert LOANS.newest == {Third, Other}


def test_the_subject_names_log_fields_and_span_attributes() -> None:
    assert (LOANS.id_field, LOANS.id_attribute) == ("loan_id", "loan.id")


def test_a_process_rejects_a_second_catalogue() -> None:
    # Given a process with the catalogue of the shop
    assert catalogue.use(CATALOGUE) is CATALOGUE

    # When another one is set, then it is rejected, and the first one stays
    with pytest.raises(RuntimeError, match="already has another catalogue"):
        catalogue.use(LOANS)
    assert catalogue.current() is CATALOGUE


def test_a_process_without_contracts_reports_the_missing_import(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(catalogue, "_current", [])

    with pytest.raises(RuntimeError, match="import the module that defines the contracts"):
        catalogue.current()
