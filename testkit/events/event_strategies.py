"""Hypothesis strategies for events of this shop."""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import strategies as st

from common import events
from eventbus.events.envelope import Event
from eventbus.events.limits import INTEGER

SKUS = st.text(min_size=1, max_size=20)
TEXTS = st.text(max_size=40)
NUMBERS = st.integers(0, 2**53)
COUNTS = st.integers(1, INTEGER)
CURRENCIES = st.text(max_size=3)
LINES = st.lists(
    st.builds(events.Line, sku=SKUS, quantity=COUNTS, unit_price=NUMBERS), min_size=1, max_size=5
).map(tuple)
HELD = st.lists(st.builds(events.Quantity, sku=SKUS, quantity=COUNTS), max_size=5).map(tuple)
SHORTAGES = st.lists(
    st.builds(events.Shortage, sku=SKUS, requested=COUNTS, available=NUMBERS), max_size=5
).map(tuple)
ORDERED = {"customer_email": TEXTS, "currency": CURRENCIES, "total": NUMBERS, "lines": LINES}
MONEY = st.builds(events.Money, amount=NUMBERS, currency=st.just("EUR"))
PRICED = st.lists(
    st.builds(events.PricedLine, sku=SKUS, quantity=COUNTS, unit_price=MONEY),
    min_size=1,
    max_size=5,
).map(tuple)
DATA = st.one_of(
    st.builds(
        events.OrderCreatedV2,
        customer=st.builds(events.Customer, email=TEXTS),
        total=MONEY,
        lines=PRICED,
        client_ip=st.none() | TEXTS,
    ),
    st.builds(events.OrderCreated, **ORDERED),
    st.builds(events.OrderConfirmed, **ORDERED),
    st.builds(events.OrderCancelled, reason=TEXTS, shortages=SHORTAGES, **ORDERED),
    st.builds(events.StockReserved, lines=HELD),
    st.builds(events.StockRejected, reason=TEXTS, shortages=SHORTAGES),
    st.builds(events.StockReleased, lines=HELD),
)
#: The earliest and the latest time of valid events.
YEARS = (datetime(1970, 1, 2), datetime(8999, 12, 30))  # noqa: DTZ001 - hypothesis adds zones

ZONES = st.one_of(st.just(UTC), st.just(timezone(timedelta(hours=5, minutes=30))))
ANY_EVENT = st.builds(
    Event,
    id=st.uuids(),
    source=TEXTS,
    subject=st.uuids(),
    sequence=COUNTS,
    time=st.datetimes(*YEARS, timezones=ZONES),
    traceparent=st.none() | TEXTS,
    causationid=st.none() | st.uuids(),
    replayed=st.booleans(),
    data=DATA,
)
CREATED = st.builds(events.OrderCreated, client_ip=st.none() | TEXTS, **ORDERED)
