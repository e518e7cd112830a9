"""Processes with several server addresses, the first of which is down."""

from testkit.eventually import eventually
from testkit.processes.stack import Stack

#: An address without a server.
DEAD = "127.0.0.1:1"


def test_an_order_is_handled_when_the_first_servers_are_down(stack: Stack) -> None:
    # Given processes with the addresses of a missing server and of a running one
    stack.extra["BROKER_HOST"] = f"{DEAD},127.0.0.1:{stack.vhost.amqp_port}"
    stack.extra["DATABASE_HOST"] = f"{DEAD},127.0.0.1:{stack.servers.postgres_port}"
    stack.stock(TEA=10)
    stack.start()

    # When an order is placed
    order_id = stack.place(("TEA", 1))

    # Then it is decided, mailed and counted
    assert stack.decided(order_id) == ("CONFIRMED", None)

    def mailed_and_counted() -> None:
        assert len(stack.mails()) == 2
        assert stack.execute("analytics", "SELECT outcome FROM orders") == ["CONFIRMED"]

    eventually(mailed_and_counted)
