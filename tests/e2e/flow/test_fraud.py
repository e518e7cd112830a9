"""An order that looks like fraud goes on as any other, and the operator gets a mail about it."""

from testkit.eventually import eventually
from testkit.processes.stack import Stack


def test_the_operator_hears_of_an_order_that_looks_like_fraud(stack: Stack) -> None:
    # given a shop whose limit is ten euros
    stack.extra |= {"FRAUD_AMOUNTS": "EUR:1000", "OPERATOR_EMAIL": "ops@shop.example"}
    stack.stock(TEA=100)
    stack.start()

    # when one customer buys as usual, and one does not
    usual = stack.place(("TEA", 2), email="ada@example.com")
    unusual = stack.place(("TEA", 3), email="eve@example.com")

    # then the operator gets one mail, about the one
    subjects = [f"Order {unusual} looks like fraud"]
    eventually(lambda: _equal(stack.mails("ops@shop.example"), subjects))

    # and both customers get what they ordered, and hear of nothing else
    for order_id, email in ((usual, "ada@example.com"), (unusual, "eve@example.com")):
        assert stack.decided(order_id) == ("CONFIRMED", None)
        mails = [f"We have received your order {order_id}", f"Your order {order_id} is confirmed"]
        eventually(lambda e=email, m=mails: _equal(stack.mails(e), m))

    # and the connection's address was told
    told = "SELECT client_ip FROM judgements WHERE suspected"
    assert stack.execute("fraud", told) == ["127.0.0.1"]


def _equal(found: object, expected: object) -> None:
    assert found == expected
