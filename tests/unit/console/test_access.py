"""Rights, the tables of endpoints and commands, and masked addresses."""

import pytest
from flask import Flask, Response

from console.access import passwords
from console.access.models import Role
from console.access.rights import RIGHTS, Person, Right
from console.settings import ConsoleSettings
from console.web.access import endpoints, masking
from console.web.access.endpoints import RULES
from console.web.app import create_app
from tests.support.unreachable_servers import SETTINGS

#: Typed as the page of a parked message shows the body.
BODY = (
    "<pre>{\n  &#34;email&#34;: &#34;ada@example.com&#34;,\n"
    "  &#34;client_ip&#34;: &#34;203.0.113.7&#34;,\n  &#34;colour&#34;: &#34;red&#34;\n}</pre>"
)


def test_a_viewer_has_no_right_and_an_administrator_has_all() -> None:
    assert not RIGHTS[Role.VIEWER]
    assert RIGHTS[Role.ADMIN] == set(Right)
    assert not RIGHTS[Role.OPERATOR] & {Right.AUDIT, Right.PEOPLE}


def test_an_operator_acts_only_on_the_listed_services() -> None:
    limited = Person(name="ada", role=Role.OPERATOR, services=("inventory",))

    assert limited.may(Right.REDRIVE, "inventory")
    assert not limited.may(Right.REDRIVE, "order")
    assert not limited.may(Right.AUDIT)
    assert Person(name="bob", role=Role.OPERATOR).may(Right.REDRIVE, "order")


def test_every_rule_belongs_to_an_endpoint() -> None:
    app = create_app(ConsoleSettings(**SETTINGS))

    assert set(RULES) <= set(app.view_functions)


def test_an_endpoint_with_a_side_effect_requires_a_rule() -> None:
    # Given an app with an endpoint that is in no row
    app = Flask(__name__)
    app.add_url_rule("/orders/cancel", "orders.annul", lambda: "", methods=["POST"])

    # Then it does not start
    with pytest.raises(RuntimeError, match=r"no rule for orders\.annul"):
        endpoints.install(app)


def test_addresses_are_masked_without_the_right() -> None:
    response = Response(BODY, content_type="text/html; charset=utf-8")

    revealed = masking.apply(response, reveals=False, names=set())

    assert revealed is None
    assert response.get_data(as_text=True) == BODY.replace("ada@example.com", "***").replace(
        "203.0.113.7", "***"
    )


def test_addresses_are_counted_with_the_right() -> None:
    response = Response(BODY, content_type="text/html; charset=utf-8")

    revealed = masking.apply(response, reveals=True, names=set())

    assert revealed == "IP addresses: 1, email addresses: 1"
    assert response.get_data(as_text=True) == BODY


@pytest.mark.parametrize(
    ("shown", "masked"),
    [
        ("o&#39;brien@example.com", "***"),
        ("a&amp;b@example.com.", "***"),
        ('<a href="/orders?email=ada%40example.com">', '<a href="***">'),
        ("&lt;ada@example.com&gt;", "&lt;***&gt;"),
        ("j***@example.com", "j***@example.com"),
        ("ops@shop", "ops@shop"),
        ("at 12:30, 5 pieces", "at 12:30, 5 pieces"),
    ],
)
def test_a_word_that_contains_an_address_is_masked(shown: str, masked: str) -> None:
    response = Response(f"<p>{shown}</p>", content_type="text/html; charset=utf-8")

    masking.apply(response, reveals=False, names={"ops@shop"})

    assert response.get_data(as_text=True) == f"<p>{masked}</p>"


def test_a_long_page_is_masked_in_linear_time() -> None:
    # Given a page with one long word, whose end is an address
    response = Response("x" * 2_000_000 + "@example.com", content_type="text/html; charset=utf-8")

    masking.apply(response, reveals=False, names=set())

    assert response.get_data(as_text=True) == "***"


def test_only_pages_are_masked() -> None:
    response = Response("ada@example.com", content_type="text/css")

    assert masking.apply(response, reveals=False, names=set()) is None
    assert response.get_data(as_text=True) == "ada@example.com"


def test_a_password_is_random_and_matches_only_its_hash() -> None:
    first, second = passwords.generated(), passwords.generated()
    stored = passwords.hashed(first)

    assert first != second
    assert len(first) == 24
    assert first not in stored
    assert passwords.is_right(first, stored)
    assert not passwords.is_right(second, stored)
    assert not passwords.is_right(first, None)
