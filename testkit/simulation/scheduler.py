"""A seeded scheduler: one actor runs at a time, from one point to the next."""

from collections.abc import Callable
from contextlib import suppress
from random import Random
from threading import Lock, Thread, current_thread
from typing import Protocol

from testkit.simulation.clock import VirtualClock

#: Seconds of real time within which an actor must reach its next point.
_TURN_LIMIT = 60.0

#: The share of turns in which the actor that has just run continues.
_CONTINUES = 0.4


class Crashed(BaseException):
    """The end of an actor at a point, as a kill terminates a process."""


class Hung(Exception):
    """An actor has not reached its next point."""


class Source(Protocol):
    """A participant without a thread, such as the broker."""

    def is_ready(self) -> bool:
        """Return whether a step can be taken now."""

    def step(self) -> None:
        """Take one step."""


class Actor(Thread):
    """A thread that runs only while it holds the turn."""

    def __init__(self, scheduler: "Scheduler", name: str, body: Callable[[], None]) -> None:
        super().__init__(name=name, daemon=True)
        self._scheduler = scheduler
        self._body = body
        self.turn = Lock()
        self.turn.acquire()
        self.wakes_at = 0.0
        self.condition: Callable[[], bool] | None = None
        self.is_doomed = False
        self.has_ended = False
        self.error: BaseException | None = None

    def run(self) -> None:
        """Run the body from its first turn to its end or crash."""
        self.turn.acquire()
        try:
            with suppress(Crashed):
                if not self.is_doomed:
                    self._body()
        except BaseException as error:
            # An error during a crash is part of the crash.
            self.error = None if self.is_doomed else error
        self.has_ended = True
        self._scheduler.give_back()

    def is_ready(self, now: float) -> bool:
        """Return whether the actor can run at this time."""
        return self.wakes_at <= now or bool(self.condition and self.condition())

    def step(self) -> None:
        """Run the actor to its next point."""
        self._scheduler.hand_over(self)


class Scheduler:
    """The choice of the next participant. Equal seeds make equal choices."""

    def __init__(self, clock: VirtualClock, rng: Random) -> None:
        self.clock = clock
        self._rng = rng
        self._actors: list[Actor] = []
        self._sources: list[Source] = []
        self._back = Lock()
        self._back.acquire()
        self._last: Actor | Source | None = None
        self.steps = 0

    def add(self, source: Source) -> None:
        """Add a participant without a thread."""
        self._sources.append(source)

    def remove(self, source: Source) -> None:
        """Remove a participant without a thread."""
        self._sources.remove(source)

    def start(self, name: str, body: Callable[[], None]) -> Actor:
        """Start an actor, which first runs when it is chosen."""
        actor = Actor(self, name, body)
        actor.wakes_at = self.clock.now
        actor.start()
        self._actors.append(actor)
        return actor

    def step(self) -> bool:
        """Take a step of one participant. Return False if time passed instead."""
        self.steps += 1
        now = self.clock.now
        ready: list[Actor | Source] = [each for each in self._actors if each.is_ready(now)]
        ready += [each for each in self._sources if each.is_ready()]
        if not ready:
            self.clock.advance_to(min(actor.wakes_at for actor in self._actors))
            return False
        is_next = self._last in ready and self._rng.random() < _CONTINUES
        chosen = self._last if is_next and self._last else self._rng.choice(ready)
        self._last = chosen
        chosen.step()
        return True

    def crash(self, actor: Actor) -> None:
        """End an actor at the point where it is."""
        actor.is_doomed = True
        while not actor.has_ended:
            self.hand_over(actor)
        actor.join(_TURN_LIMIT)

    def end(self) -> None:
        """End all actors."""
        for actor in list(self._actors):
            self.crash(actor)

    def point(self) -> None:
        """Let other actors run. An actor calls this between two effects."""
        self.wait(self.clock.now)

    def wait(self, until: float, condition: Callable[[], bool] | None = None) -> None:
        """Wait until a time, or until the condition holds, at least until the next turn.

        Raises `Crashed` in an actor that must end. Other threads return immediately.
        """
        actor = current_thread()
        if not isinstance(actor, Actor):
            return
        if actor.is_doomed:
            raise Crashed
        actor.wakes_at, actor.condition = until, condition
        self.give_back()
        actor.turn.acquire()
        actor.condition = None
        if actor.is_doomed:
            raise Crashed

    def hand_over(self, actor: Actor) -> None:
        """Run an actor, and wait until it returns the turn. Raise its error if it failed."""
        actor.turn.release()
        if not self._back.acquire(timeout=_TURN_LIMIT):
            raise Hung(f"{actor.name} has not reached its next point")
        if actor.has_ended:
            self._actors.remove(actor)
        if actor.error:
            raise actor.error

    def give_back(self) -> None:
        """Return the turn to the scheduler."""
        self._back.release()
