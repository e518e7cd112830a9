"""Addresses of servers: names, IPv4 addresses, and IPv6 addresses in brackets."""

import pytest

from eventbus.settings.addresses import addresses, in_url


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rabbitmq", [("rabbitmq", 5671)]),
        ("a.b.c:1, d_e:65535", [("a.b.c", 1), ("d_e", 65535)]),
        ("127.0.0.1:5671", [("127.0.0.1", 5671)]),
        ("[::1]", [("::1", 5671)]),
        ("[::1]:15671", [("::1", 15671)]),
        (
            "[2001:DB8:0::7]:1,[::ffff:10.0.0.1],x",
            [("2001:db8::7", 1), ("::ffff:a00:1", 5671), ("x", 5671)],
        ),
        ("[::]:8000", [("::", 8000)]),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, expected: list[tuple[str, int]]) -> None:
    assert [*addresses(text, 5671)] == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", ",", "a,", ":1", "a:", "a:0", "a:65536", "a:b", "a b", "user@a"),
        *("::1", "::1:5671", "[::1", "::1]", "[]", "[::1]:", "[::1]5671", "[::1%eth0]"),
        *("[1.2.3.4]", "[rabbitmq]", "[::g]", "[1::2::3]", "[:::]"),
    ],
)
def test_an_ambiguous_address_is_rejected_and_not_shown(text: str) -> None:
    with pytest.raises(ValueError, match=r"^each must be HOST, HOST:PORT or \[IPV6\]:PORT"):
        addresses(text, 5671)


@pytest.mark.parametrize(("host", "written"), [("::1", "[::1]"), ("a.b", "a.b")])
def test_an_ipv6_address_has_brackets_before_a_port(host: str, written: str) -> None:
    assert in_url(host) == written
