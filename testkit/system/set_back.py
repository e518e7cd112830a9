"""A shop whose databases are restored from backups under load, and the conditions afterwards."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.kombu_topology import CONSUMERS, SERVICES, service
from console.ledger.books import Books
from console.ledger.reconciliation import Effort
from console.restore.check import Condition, Findings, check
from console.restore.heal import Healed, heal, heal_broker
from testkit.campaign import evidence, invariants
from testkit.campaign.system import System
from testkit.eventually import eventually
from testkit.processes.stack import RETRY_TIERS, Stack
from testkit.servers.backups import Backup
from testkit.system.ledger_settings import ledger_settings

#: The units of each SKU. There are fewer kettles than are ordered, so the order of the decisions
#: matters.
PIECES = {"TEA": 100_000, "KETTLE": 12}

#: The programs in addition to the processes that a service declares.
_MORE = {"order": ("api",)}

_INVARIANTS = (
    invariants.sequences_rise,
    invariants.each_cause_is_known,
    invariants.each_event_has_its_place,
    invariants.the_stock_matches_the_orders,
    invariants.the_services_agree,
    invariants.each_mail_arrives,
    invariants.the_figures_equal_a_recount,
)


def programs(name: str) -> tuple[str, ...]:
    """Return the programs of a service."""
    return (*service(name).processes, *_MORE.get(name, ()))


@dataclass
class SetBack:
    """A running shop, its accepted orders, and backups of its databases."""

    stack: Stack
    directory: Path
    #: The orders that the API has accepted.
    ids: list[str] = field(default_factory=list)

    def open(self) -> None:
        """Start every program, with stock and a limit above which an order is suspected."""
        self.stack.extra |= {"FRAUD_AMOUNTS": "EUR:1000", "OPERATOR_EMAIL": "ops@shop.example"}
        self.stack.stock(**PIECES)
        self.stack.start()

    @contextmanager
    def orders(self) -> Iterator[None]:
        """Let customers place, cancel and ship orders during the block."""
        ended = threading.Event()
        customers = [threading.Thread(target=self._order, args=(n, ended)) for n in range(3)]
        for customer in customers:
            customer.start()
        try:
            yield
        finally:
            ended.set()
            for customer in customers:
                customer.join()

    def wait_for(self, more: int) -> None:
        """Wait until this many more orders are accepted."""
        target = len(self.ids) + more

        def placed() -> None:
            assert len(self.ids) >= target

        eventually(placed, progress=lambda: len(self.ids))

    def place(self) -> str:
        """Place one more order, and return its id."""
        self.ids.append(self.stack.place(("TEA", 1)))
        return self.ids[-1]

    def back_up(self, name: str) -> Backup:
        """Back up a service's database while its processes are running."""
        return Backup.of(name, self.stack.databases[name].url, self.directory)

    def stop(self, name: str) -> None:
        """Stop the processes of a service that run."""
        for program in filter(self.stack.is_running, programs(name)):
            self.stack.shut_down(program)
        self.stack.close()

    def start(self, *names: str) -> None:
        """Start the processes of services."""
        self.stack.start(*(program for name in names for program in programs(name)))

    def check(self, *names: str) -> Findings:
        """Return the findings of `orderctl restore check`."""
        settings = ledger_settings(self.stack)
        services = [service(name) for name in names] if names else list(SERVICES)
        with Books.opened(settings) as books:
            effort = Effort(pause=0, settling=2, search=60)
            return check(settings, books, services, since=None, effort=effort)

    def condition(self, name: str) -> Condition:
        """Return the condition of one service's database."""
        (found,) = self.check(name).conditions
        return found

    def heal(self, name: str) -> Healed:
        """Heal a service as `orderctl restore heal` does."""
        settings = ledger_settings(self.stack)
        with Books.opened(settings) as books:
            effort = Effort(pause=0, settling=0, search=20)
            return heal(
                settings, books, service(name), since=None, effort=effort, report=lambda _: None
            )

    def heal_broker(self) -> Healed:
        """Heal the broker as `orderctl restore heal --service broker` does."""
        settings = ledger_settings(self.stack)
        with Books.opened(settings) as books:
            return heal_broker(
                settings,
                books,
                since=None,
                effort=Effort(pause=0, settling=2, search=20),
                changed=lambda _: None,
                report=lambda _: None,
            )

    def lose_broker(self) -> None:
        """Delete the broker's objects and messages. Programs that use it must not run."""
        vhost = self.stack.vhost
        vhost.request("DELETE", f"/vhosts/{vhost.name}")

    def event_ids(self, name: str, table: str) -> set[Any]:
        """Return the ids in the inbox or the outbox of a service."""
        return set(self.stack.execute(name, f"SELECT event_id FROM {table}"))

    def decisions(self) -> dict[str, str]:
        """Return the status of each order and its reason."""
        rows = self.stack.execute(
            "order", "SELECT id || ' ' || status || coalesce(' ' || reason, '') FROM orders"
        )
        return dict(row.split(" ", 1) for row in rows)

    def replied(self, order_id: str) -> list[str]:
        """Return the status of an order's reservation, if it has one."""
        sql = "SELECT status FROM reservations WHERE order_id = :id"
        return self.stack.execute("inventory", sql, id=order_id)

    def require_sent(self, name: str) -> None:
        """Require that every event of a service's outbox is sent."""
        sql = "SELECT count(*) FROM outbox WHERE sent_at IS NULL"
        assert self.stack.execute(name, sql) == [0]

    def settle(self) -> None:
        """Wait until every order is decided, every event is handled and every email is sent."""
        eventually(self._at_rest, progress=lambda: tuple(self._progress()))

    def violations(self) -> list[str]:
        """Return the violations of the invariants that hold at rest, and of one of this shop."""
        system = System(self.stack, starts=Counter({"notification-mailer": 1}))
        found = evidence.gather(system, [], [], PIECES, is_at_rest=True)
        texts = [str(each) for invariant in _INVARIANTS for each in invariant(found)]
        texts += [f"{name} arrived {n} times" for name, n in found.mails.items() if n > 1]
        stored = {order.id for order in found.orders}
        return texts + [f"order {each} is lost" for each in self.ids if each not in stored]

    def _order(self, customer: int, ended: threading.Event) -> None:
        email, number = f"{customer}@example.com", 0
        while not ended.is_set():
            sku, pieces = ("KETTLE", 1) if number % 3 == 1 else ("TEA", 3 if number % 5 == 4 else 1)
            placed = self.stack.place((sku, pieces), email=email)
            self.ids.append(placed)
            if number % 6 in (2, 3):
                status, _ = self.stack.decided(placed)
                if status == "CONFIRMED":
                    (self.stack.ship if number % 6 == 2 else self.stack.cancel)(placed)
            number += 1
            ended.wait(0.05)

    def _at_rest(self) -> None:
        for each in SERVICES:
            if each.publishes:
                self.require_sent(each.name)
        pending = "SELECT count(*) FROM orders WHERE status = 'PENDING'"
        assert self.stack.execute("order", pending) == [0]
        for each in CONSUMERS:
            for queue in (each.queue, *map(each.retry_queue, RETRY_TIERS)):
                assert self.stack.vhost.depth(queue) == 0
        mails = "SELECT count(*) FROM notifications WHERE status = 'PENDING'"
        assert self.stack.execute("notification", mails) == [0]
        events = self.event_ids("order", "outbox") | self.event_ids("fraud", "outbox")
        assert events <= self.event_ids("analytics", "inbox")

    def _progress(self) -> Iterator[int]:
        for each in SERVICES:
            (count,) = self.stack.execute(each.name, "SELECT count(*) FROM inbox")
            yield int(count)
