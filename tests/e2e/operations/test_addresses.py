"""Processes that are told of several servers, the first of which is not there."""

from testkit.eventually import eventually
from testkit.processes.stack import Stack

#: Where nobody listens.
DEAD = "127.0.0.1:1"


def test_an_order_goes_its_way_though_the_first_broker_and_database_are_dead(stack: Stack) -> None:
    # Given processes that know of a server that is not there, and of one that is
    stack.extra["BROKER_HOST"] = f"{DEAD},127.0.0.1:{stack.vhost.amqp_port}"
    stack.extra["DATABASE_HOST"] = f"{DEAD},127.0.0.1:{stack.servers.postgres_port}"
    stack.stock(TEA=10)
    stack.start()

    # When
    order_id = stack.place(("TEA", 1))

    # Then it is decided, told of, and counted
    assert stack.decided(order_id) == ("CONFIRMED", None)

    def told_and_counted() -> None:
        assert len(stack.mails()) == 2
        assert stack.execute("analytics", "SELECT outcome FROM orders") == ["CONFIRMED"]

    eventually(told_and_counted)
