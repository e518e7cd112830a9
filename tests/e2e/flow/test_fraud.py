"""A suspected order is handled like any other, and the operator receives an email about it."""

from testkit.eventually import becomes
from testkit.processes.stack import Stack


def test_the_operator_gets_a_mail_about_a_suspected_order(stack: Stack) -> None:
    # Given a shop whose limit is ten euros
    stack.extra |= {"FRAUD_AMOUNTS": "EUR:1000", "OPERATOR_EMAIL": "ops@shop.example"}
    stack.stock(TEA=100)
    stack.start()

    # When one order is within the limit and another exceeds it
    usual = stack.place(("TEA", 2), email="ada@example.com")
    unusual = stack.place(("TEA", 3), email="eve@example.com")

    # Then the operator receives one email, about the second order
    subjects = [f"Order {unusual} looks like fraud"]
    becomes(lambda: stack.mails("ops@shop.example"), subjects)

    # And both orders are confirmed, and the customers receive the usual emails only
    for order_id, email in ((usual, "ada@example.com"), (unusual, "eve@example.com")):
        assert stack.decided(order_id) == ("CONFIRMED", None)
        mails = [f"We have received your order {order_id}", f"Your order {order_id} is confirmed"]
        becomes(lambda e=email: stack.mails(e), mails)

    # And the fraud check has the address of the connection
    address = "SELECT client_ip FROM judgements WHERE suspected"
    assert stack.execute("fraud", address) == ["127.0.0.1"]
