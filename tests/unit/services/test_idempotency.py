"""The fingerprint of a request is the same in later releases, which may add fields to an order."""

from dataclasses import asdict, dataclass, replace

from order_app.domain import Line
from order_app.storage.idempotency import Claim, fingerprint
from order_app.use_cases import Placement

PLACEMENT = Placement(
    customer_email="ann@example.com",
    currency="EUR",
    lines=(Line(sku="TEA", quantity=2, unit_price=1250),),
)


def test_the_fingerprint_is_the_same_in_every_release() -> None:
    # Fingerprints are stored for a month. A change would reject each repeated request with a 422.
    stored = "c1354a4193a2425dca9b789eb7c955bfbfb818ea4d7b3875d248170a31d08760"

    assert fingerprint(PLACEMENT) == stored


def test_a_new_field_without_a_value_keeps_the_fingerprint() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Later(Placement):
        voucher: str | None = None

    given = {name: getattr(PLACEMENT, name) for name in asdict(PLACEMENT)}

    assert fingerprint(Later(**given)) == fingerprint(PLACEMENT)
    assert fingerprint(Later(**given, voucher="TEN")) != fingerprint(PLACEMENT)


def test_a_new_field_of_a_line_keeps_the_fingerprint() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Later(Line):
        gift: bool = False

    given = asdict(PLACEMENT.lines[0])

    def placed(**more: bool) -> Placement:
        return replace(PLACEMENT, lines=(Later(**given, **more),))

    assert fingerprint(placed()) == fingerprint(PLACEMENT)
    assert fingerprint(placed(gift=True)) != fingerprint(PLACEMENT)


def test_a_fingerprint_of_another_release_is_not_compared() -> None:
    claim = Claim.of(["a"], "k", PLACEMENT)

    assert claim.matches(fingerprint(PLACEMENT))
    assert claim.matches(f"2:{'0' * 64}")
    assert not claim.matches("0" * 64)
