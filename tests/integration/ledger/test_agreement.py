"""Orders are compared with reservations, mails and analytics, and only settled ones disagree."""

import json
from datetime import UTC, datetime
from uuid import UUID

import pytest
from sqlalchemy import delete, insert, text, update

from analytics_worker.models import OrderRow as ProjectedOrder
from common.kombu_topology import ANALYTICS, INVENTORY, NOTIFICATION, ORDER
from console.ledger import agreement
from console.ledger.agreement import Disagreements
from console.ledger.books import Books
from eventbus.database.db import transaction
from eventbus.events.envelope import Event
from inventory_worker.models import Reservation, ReservationLine
from notification_worker.models import Notification
from order_app.storage.models import LineRow, OrderRow
from testkit.data.accounted import AccountedSystem
from testkit.data.outboxes import CANCELLED, CONFIRMED, CREATED, event, record
from testkit.processes.orderctl import orderctl

NOW = datetime.now(UTC)


class Orders:
    """Orders of one unit of TEA, with the facts that each service has about them."""

    def __init__(self, system: AccountedSystem) -> None:
        self._system = system

    def confirmed(self) -> UUID:
        """Store a confirmed order about which all services agree, and return its id."""
        return self._store("CONFIRMED", None, CONFIRMED, "RESERVED", "confirmed", "CONFIRMED")

    def cancelled(self) -> UUID:
        """Store a cancelled order about which all services agree, and return its id."""
        return self._store("CANCELLED", "customer", CANCELLED, "RELEASED", "cancelled", "CANCELLED")

    def compare(self) -> list[tuple[UUID, str]]:
        """Return the order and the service of each disagreement."""
        return [(found.order_id, found.kind) for found in self.disagreements().listed]

    def disagreements(self) -> Disagreements:
        """Return the disagreements."""
        with Books.opened(self._system.settings) as books:
            return agreement.compare(self._system.settings, books, since=None, pause=0)

    def run(self, service: str, statement: object) -> None:
        """Run a statement in a service's database, past its triggers, as a restored backup does."""
        with transaction(self._system.databases[service]) as session:
            session.execute(text("SET LOCAL session_replication_role = replica"))
            session.execute(statement)  # type: ignore[call-overload]

    def _store(
        self, status: str, reason: str | None, data: object, held: str, kind: str, outcome: str
    ) -> UUID:
        created = event(CREATED)
        decided = event(data, created.subject, 2)  # type: ignore[arg-type]
        order_id = created.id
        events = [self._about(order_id, each) for each in (created, decided)]
        record(self._system.databases["order"], *events)
        at = {"created_at": NOW, "decided_at": NOW, "deadline_at": NOW}
        order = {"id": order_id, "status": status, "reason": reason, "total": 100, "sequence": 2}
        ordered = {"customer_email": "ada@example.com", "currency": "EUR"}
        self.run(ORDER.name, insert(OrderRow).values(order | at | ordered))
        line = {"order_id": order_id, "position": 1, "sku": "TEA", "quantity": 1}
        self.run(ORDER.name, insert(LineRow).values(line | {"unit_price": 100}))
        self.run(INVENTORY.name, insert(Reservation).values(order_id=order_id, status=held))
        piece = {"order_id": order_id, "sku": "TEA", "quantity": 1}
        self.run(INVENTORY.name, insert(ReservationLine).values(piece))
        for each in ("received", kind):
            mail = {"order_id": order_id, "kind": each, "recipient": "operator", "context": {}}
            self.run(NOTIFICATION.name, insert(Notification).values(mail))
        projected = {"id": order_id, "placed_at": NOW, "currency": "EUR", "total": 100}
        self.run(ANALYTICS.name, insert(ProjectedOrder).values(projected | {"outcome": outcome}))
        for service in (INVENTORY, NOTIFICATION, ANALYTICS):
            for each in events:
                self._system.deliver(service, each)
        return order_id

    def _about(self, order_id: UUID, each: Event) -> Event:
        fields = {"source": each.source, "sequence": each.sequence, "data": each.data}
        return Event(id=each.id, subject=order_id, **fields)


@pytest.fixture
def orders(system: AccountedSystem) -> Orders:
    """The orders of a system."""
    return Orders(system)


def test_services_that_agree_cause_no_finding(orders: Orders) -> None:
    orders.confirmed()
    orders.cancelled()

    found = orders.disagreements()

    assert (found.count, found.orders) == (0, 2)


@pytest.mark.parametrize("status", ["REJECTED", "RELEASED", "CANCELLED"])
def test_a_confirmed_order_must_hold_its_stock(orders: Orders, status: str) -> None:
    orders.confirmed()
    order_id = orders.confirmed()
    orders.run("inventory", _of(Reservation, order_id, status=status))

    assert orders.compare() == [(order_id, "inventory")]


def test_a_confirmed_order_must_hold_the_quantities_of_its_lines(orders: Orders) -> None:
    order_id = orders.confirmed()
    orders.run("inventory", _of(ReservationLine, order_id, quantity=2))

    assert orders.compare() == [(order_id, "inventory")]


def test_a_cancelled_order_must_hold_nothing(orders: Orders) -> None:
    order_id = orders.cancelled()
    orders.run("inventory", _of(Reservation, order_id, status="RESERVED"))

    assert orders.compare() == [(order_id, "inventory")]


def test_an_order_must_have_a_mail_of_each_kind(orders: Orders) -> None:
    order_id = orders.confirmed()
    mails = delete(Notification).where(Notification.order_id == order_id)
    orders.run("notification", mails.where(Notification.kind == "confirmed"))

    assert orders.compare() == [(order_id, "notification")]


def test_the_analytics_must_have_the_orders_outcome(orders: Orders) -> None:
    order_id = orders.cancelled()
    outcome = update(ProjectedOrder).where(ProjectedOrder.id == order_id)
    orders.run("analytics", outcome.values(outcome="CONFIRMED"))

    assert orders.compare() == [(order_id, "analytics")]


def test_an_order_with_an_event_in_flight_is_not_compared(
    orders: Orders, system: AccountedSystem
) -> None:
    # Given an order that was cancelled, and an inventory that has not handled it yet
    order_id = orders.cancelled()
    orders.run("inventory", _of(Reservation, order_id, status="RESERVED"))
    cancelled = next(e for e in system.events() if e.type == "order.cancelled")
    system.forget(INVENTORY, [cancelled.id])

    # Then the two do not disagree: the event is accounted for
    assert orders.compare() == []


def test_a_disagreement_is_reported_with_status_1(orders: Orders, system: AccountedSystem) -> None:
    order_id = orders.cancelled()
    orders.run("inventory", _of(Reservation, order_id, status="RESERVED"))

    result = orderctl(system.environment, "reconcile", "--wait", "20", "--json")

    assert result.exit_code == 1
    assert json.loads(result.stdout)["disagreements"] == {
        "count": 1,
        "listed": [
            {
                "order_id": str(order_id),
                "kind": "inventory",
                "text": "CANCELLED, but its stock is still reserved",
            }
        ],
    }


def _of(table: type, order_id: UUID, **values: object) -> object:
    return update(table).where(table.order_id == order_id).values(values)  # type: ignore[attr-defined]
