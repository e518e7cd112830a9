"""Waiting until a system is idle: every order decided, every event sent and every email settled."""

from bench.system.measured import Measured
from bench.system.servers import execute, until
from deploy.local.problem import Problem, last_words

#: Seconds within which a system must be idle, and all orders decided.
PATIENCE = 180.0

_STATES = "SELECT status, count(*) FROM orders WHERE created_at >= :start GROUP BY status"

#: The queries for unfinished work, each of which reads an index.
_PENDING = "SELECT EXISTS (SELECT FROM orders WHERE status = 'PENDING')"
_UNSENT = "SELECT EXISTS (SELECT FROM outbox WHERE sent_at IS NULL)"
_UNMAILED = "SELECT EXISTS (SELECT FROM notifications WHERE status = 'PENDING')"


def settle(measured: Measured, *, within: float = PATIENCE) -> None:
    """Wait until no order, event or message is pending.

    Pending emails are awaited if they are part of the measurement, and discarded otherwise.
    """
    # One connection for all polls: opening one costs the broker as much as several orders.
    with measured.vhost.connect() as connection:
        channel = connection.default_channel

        def settled() -> bool:
            _require_all_running(measured)
            return not (
                any(_exists(measured, service, _UNSENT) for service in measured.outboxes)
                or any(
                    channel.queue_declare(queue, passive=True).message_count
                    for queue in measured.queues
                )
                or (measured.sends_mails and _exists(measured, "notification", _UNMAILED))
            )

        until(settled, "outboxes and queues empty", within=within)
    if not measured.sends_mails:
        # The tables are in the order in which the worker, which may still handle its last batch,
        # writes to them.
        execute(measured, "notification", "TRUNCATE inbox, notifications")


def decide(measured: Measured, start: object, *, within: float = PATIENCE) -> None:
    """Wait until all orders are decided; raises `Problem` unless all are CONFIRMED."""

    def decided() -> bool:
        _require_all_running(measured)
        return not _exists(measured, "order", _PENDING)

    try:
        until(decided, "all orders decided", within=within)
    except Problem as problem:
        waiting = ", ".join(f"{queue} {measured.vhost.depth(queue)}" for queue in measured.queues)
        states = dict(execute(measured, "order", _STATES, start=start))
        raise Problem(f"{problem.message} ({states}, {waiting}); see {measured.logs}") from None
    # There is enough stock for every order: any other status is a failure.
    states = dict(execute(measured, "order", _STATES, start=start))
    if set(states) != {"CONFIRMED"}:
        raise Problem(f"not all orders were confirmed: {states}; see {measured.logs}")


def _require_all_running(measured: Measured) -> None:
    for name in measured.ended():
        log = measured.logs / f"{name}.log"
        raise Problem(f"{name} has exited: {last_words(log)}; see {log}")


def _exists(measured: Measured, service: str, query: str) -> bool:
    ((exists,),) = execute(measured, service, query)
    return bool(exists)
