"""One run of the simulator, which its seed determines completely."""

import logging
import random
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from random import Random
from typing import Any
from unittest.mock import patch

from common.kombu_topology import INVENTORY, NOTIFICATION, ORDER
from eventbus.database.db import transaction
from eventbus.outbox import relay
from eventbus.worker import waiting_messages
from inventory_worker import handlers as inventory_handlers
from inventory_worker import stock
from order_app import handlers as order_handlers
from testkit.data.warehouse import NOTE
from testkit.simulation.broker import SimulatedBroker, Stored
from testkit.simulation.clock import VirtualClock, virtual_time
from testkit.simulation.database import SimulatedDatabase
from testkit.simulation.nemesis import Nemesis
from testkit.simulation.processes import Process, RelayProcess, RetentionProcess, WorkerProcess
from testkit.simulation.scheduler import Hung, Scheduler
from testkit.simulation.shop import ON_HAND, SKUS, Shop
from testkit.simulation.verdict import Verdict, check

#: Number of steps with faults, maximum number of all steps of a run, and number of redrives of
#: parked messages.
_FAULTY_STEPS, _MOST_STEPS, _REDRIVES = 600, 12_000, 5

#: Seconds between the attempts of a relay to acquire the lock that another relay holds.
_HELD_DELAY = 3.0


def run_seed(
    databases: Mapping[str, SimulatedDatabase], seed: int, *, parks_in_sequence: bool = False
) -> Verdict:
    """Run a seed and return the verdict. An error of the code under simulation is a problem.

    Raises `Hung` if an actor does not return its turn, after which the databases are unusable.
    """
    try:
        return Simulation(databases, seed, parks_in_sequence=parks_in_sequence).run()
    except Hung:
        raise
    except Exception:
        return Verdict(seed, problems=[f"the run has failed:\n{traceback.format_exc()}"])


class Simulation:
    """A run of two services, each with two relays and two workers, and of an observed queue."""

    def __init__(
        self,
        databases: Mapping[str, SimulatedDatabase],
        seed: int,
        *,
        parks_in_sequence: bool = False,
    ) -> None:
        self._databases = databases
        self._rng = Random(seed)
        self._clock = VirtualClock()
        self._scheduler = Scheduler(self._clock, self._rng)
        self._clock.wait = self._scheduler.wait
        self._services = [
            replace(service, parks_in_sequence=parks_in_sequence) for service in (ORDER, INVENTORY)
        ]
        services = (*self._services, NOTIFICATION)
        self._broker = SimulatedBroker(self._clock, self._rng, services)
        self._broker.observed.add(NOTIFICATION.queue)
        self._scheduler.add(self._broker)
        jumps = self._rng.choice((0, 1, 3))
        self._nemesis = Nemesis(self._broker, self._scheduler, self._rng, jumps)
        self._processes = self._nemesis.processes
        self._verdict = Verdict(seed, orders=self._rng.randint(3, 10))
        self._redrives = 0

    def run(self) -> Verdict:
        """Run the seed to its end, and return the verdict."""
        for database in self._databases.values():
            database.begin(self._scheduler)
        with self._conditions():
            self._start()
            try:
                self._run_with_faults()
                self._nemesis.heal()
                self._drain()
            finally:
                self._end()
        verdict, broker = self._verdict, self._broker
        verdict.faults, verdict.steps = self._nemesis.faults, self._scheduler.steps
        verdict.seen = broker.seen
        for name in self._databases:
            relays = [broker.seen[f"published by {name}-relay-{number}"] for number in (1, 2)]
            broker.seen["another relay took over"] += all(relays)
        verdict.next_choice = self._rng.random()
        check(verdict, self._databases, broker)
        return verdict

    def _start(self) -> None:
        with transaction(self._databases["inventory"].sessions("warehouse")) as session:
            for sku in SKUS:
                stock.receive(session, sku, ON_HAND, NOTE)
        shop_sessions = self._databases["order"].sessions("shop")
        self._shop = Shop(shop_sessions, self._scheduler, self._rng, self._verdict.orders)
        self._scheduler.start("shop", self._shop.run)
        sent_as = self._rng.choice(((), ("order.created", "order.created.v2")))
        code: dict[str, Any] = {"order": order_handlers, "inventory": inventory_handlers}
        for service in self._services:
            database, module = self._databases[service.name], code[service.name]
            world = self._broker, self._scheduler, self._rng
            for number in (1, 2):
                versions = sent_as if service.name == ORDER.name else ()
                self._processes += [
                    RelayProcess(f"{service.name}-relay-{number}", database, *world, versions),
                    WorkerProcess(
                        f"{service.name}-worker-{number}",
                        service,
                        database,
                        *world,
                        module.HANDLERS,
                        self._nemesis.handler_fault,
                    ),
                ]
            name = f"{service.name}-retention"
            self._processes.append(RetentionProcess(name, database, self._scheduler))
        for process in self._processes:
            process.start()

    def _run_with_faults(self) -> None:
        while self._scheduler.steps < _FAULTY_STEPS or self._shop.is_open:
            self._scheduler.step()
            self._nemesis.act()
            if self._scheduler.steps > _MOST_STEPS:
                return

    def _drain(self) -> None:
        while self._scheduler.steps < _MOST_STEPS:
            if not self._scheduler.step() and self._is_at_rest() and not self._redrive():
                return
        self._verdict.stuck = 1
        self._verdict.problems.append(f"not at rest after {_MOST_STEPS} steps: {self._state()}")

    def _is_at_rest(self) -> bool:
        idle: list[Process] = [each for each in self._processes if each.is_idle]
        return (
            len(idle) == len(self._processes)
            and self._broker.is_empty()
            and not any(self._unsent().values())
        )

    def _unsent(self) -> dict[str, int]:
        query = "SELECT count(*) FROM outbox WHERE sent_at IS NULL"
        return {name: int(each.rows(query)[0][0]) for name, each in self._databases.items()}

    def _redrive(self) -> bool:
        """Move parked messages back to their queues, and return whether there were any."""
        was_parked = False
        for queue, parked in self._broker.parked.items():
            for message in parked:
                was_parked = True
                own = {n: v for n, v in message.headers.items() if not n.startswith("x-")}
                self._broker.enter(queue, Stored(message.body, own | {"retries": 0}))
            parked.clear()
        self._redrives += was_parked
        return was_parked and self._redrives <= _REDRIVES

    def _state(self) -> str:
        queued = {queue: len(messages) for queue, messages in self._broker.queues.items()}
        busy = [process.name for process in self._processes if not process.is_idle]
        return f"unsent {self._unsent()}, queued {queued}, busy {busy}"

    def _end(self) -> None:
        for database in self._databases.values():
            database.release()
        self._scheduler.end()

    @contextmanager
    def _conditions(self) -> Iterator[None]:
        # With this limit, there are several batches, although a run has few events.
        batch = self._rng.choice((2, 4, 500))
        state = random.getstate()
        # Every fault is logged, with a traceback that is expensive to format.
        logging.disable()
        random.seed(self._rng.random())
        try:
            with (
                virtual_time(self._clock, self._await_notification),
                patch.object(relay, "HELD_DELAY", _HELD_DELAY),
                patch.object(relay, "BATCH", batch),
                patch.object(waiting_messages, "BATCH_LIMIT", batch + 1),
            ):
                yield
        finally:
            random.setstate(state)
            logging.disable(logging.NOTSET)

    def _await_notification(self, _driver: object, seconds: float) -> None:
        # Any commit may have inserted a row. An additional wake-up is harmless.
        databases = self._databases.values()
        before = sum(database.commits for database in databases)
        self._scheduler.wait(
            self._clock.now + seconds,
            lambda: sum(database.commits for database in databases) != before,
        )
