"""When a system rests: what was ordered is decided, told and, where it counts, mailed."""

from bench.system.measured import Measured
from bench.system.servers import execute, until
from deploy.local.problem import Problem, last_words

#: Seconds within which a system rests, and all orders are decided. One that takes longer failed.
PATIENCE = 180.0

_STATES = "SELECT status, count(*) FROM orders WHERE created_at >= :began GROUP BY status"

#: Each a look at an index.
_PENDING = "SELECT EXISTS (SELECT FROM orders WHERE status = 'PENDING')"
_UNSENT = "SELECT EXISTS (SELECT FROM outbox WHERE sent_at IS NULL)"
_UNMAILED = "SELECT EXISTS (SELECT FROM notifications WHERE status = 'PENDING')"


def settle(measured: Measured, *, within: float = PATIENCE) -> None:
    """Wait until nothing that was ordered is under way.

    Mails are waited for where they are a part of what is measured, and forgotten elsewhere.
    """
    # One connection for all looks: to open one costs the broker as much as several orders.
    with measured.vhost.connect() as connection:
        channel = connection.default_channel

        def settled() -> bool:
            _require_all_running(measured)
            return not (
                any(_is(measured, service, _UNSENT) for service in measured.outboxes)
                or any(
                    channel.queue_declare(queue, passive=True).message_count
                    for queue in measured.queues
                )
                or (measured.sends_mails and _is(measured, "notification", _UNMAILED))
            )

        until(settled, "outboxes and queues empty", within=within)
    if not measured.sends_mails:
        # In the order in which the worker writes to them: it may be at its last batch.
        execute(measured, "notification", "TRUNCATE inbox, notifications")


def decide(measured: Measured, began: object, *, within: float = PATIENCE) -> None:
    """Wait until all orders are decided; raises `Problem` unless all are CONFIRMED."""

    def decided() -> bool:
        _require_all_running(measured)
        return not _is(measured, "order", _PENDING)

    try:
        until(decided, "all orders decided", within=within)
    except Problem as problem:
        waiting = ", ".join(f"{queue} {measured.vhost.depth(queue)}" for queue in measured.queues)
        found = dict(execute(measured, "order", _STATES, began=began))
        raise Problem(f"{problem.message} ({found}, {waiting}); see {measured.logs}") from None
    # There is plenty of everything: whatever is not confirmed went wrong.
    states = dict(execute(measured, "order", _STATES, began=began))
    if set(states) != {"CONFIRMED"}:
        raise Problem(f"not all orders were confirmed: {states}; see {measured.logs}")


def _require_all_running(measured: Measured) -> None:
    for name in measured.ended():
        log = measured.logs / f"{name}.log"
        raise Problem(f"{name} has ended: {last_words(log)}; see {log}")


def _is(measured: Measured, service: str, question: str) -> bool:
    ((answer,),) = execute(measured, service, question)
    return bool(answer)
