"""The customers and the warehouse of a simulation, who place, cancel and ship orders."""

from random import Random
from uuid import UUID

from sqlalchemy.exc import OperationalError

from eventbus.database.db import Sessions, transaction
from order_app import use_cases
from order_app.domain import Line
from order_app.events import Cause
from order_app.use_cases import Placement
from testkit.data import order_service
from testkit.data.order_service import TRACE
from testkit.simulation.scheduler import Scheduler

SKUS = ("CUP", "TEA")

#: Number of units of each SKU, which is too low for all orders of some runs.
ON_HAND = 12


class Shop:
    """The shop, which places a number of orders, and cancels and ships some of them."""

    def __init__(self, sessions: Sessions, scheduler: Scheduler, rng: Random, orders: int) -> None:
        self._sessions = sessions
        self._scheduler = scheduler
        self._rng = rng
        self._left = orders
        self.placed: list[UUID] = []
        self.is_open = True

    def run(self) -> None:
        """Act until shortly after all orders are placed."""
        while self._left or self._rng.random() < 0.7:
            pause = self._rng.choice((0.0, 0.1, 3.0))
            self._scheduler.wait(self._scheduler.clock.now + pause)
            try:
                self._act()
            except OperationalError:
                # Another transaction holds the lock, as may happen in a busy shop.
                self._scheduler.point()
        self.is_open = False

    def _act(self) -> None:
        kind = self._rng.choice(("place", "place", "cancel", "ship"))
        if kind == "place" and self._left:
            skus = sorted(self._rng.sample(SKUS, self._rng.randint(1, len(SKUS))))
            lines = tuple(Line(sku=s, quantity=self._rng.randint(1, 3), unit_price=1) for s in skus)
            placement = Placement(customer_email="a@example.com", currency="EUR", lines=lines)
            with transaction(self._sessions) as session:
                order = order_service.place_in(session, placement, seconds=1e9)
            self.placed.append(order.id)
            self._left -= 1
        elif kind == "cancel" and self.placed:
            order_service.cancel(self._sessions, self._rng.choice(self.placed))
        elif kind == "ship" and self.placed:
            with transaction(self._sessions) as session:
                order_id = self._rng.choice(self.placed)
                use_cases.ship(session, order_id, cause=Cause(traceparent=TRACE))
