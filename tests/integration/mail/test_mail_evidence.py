"""The results of other emails decide whether a failure is charged to an email or to the server."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from eventbus.database.db import Sessions
from notification_worker.delivery import Delivery
from notification_worker.smtp.evidence import REFUSED_LIMIT
from notification_worker.smtp.transport import Transport
from testkit.eventually import eventually
from testkit.mail.mailing import CONTEXT, delivery, make_due, record, rows, settings
from testkit.mail.smtp_server import DROP, Answer, Answers, SmtpServer, serving

#: The recipient of the one email that a server rejects.
BAD = "bad@example.com"

OFFERS = {"EHLO": "250-here\r\n250 SIZE 1000000"}
LONG = 5_000


def at_recipient(answer: Answer) -> Answers:
    """Give this reply to the email for one address, and accept the others."""
    return {"RCPT": lambda command: answer if BAD in command else "250 ok"}


def at_sender(answer: Answer) -> Answers:
    """Give this reply to MAIL of the one email that is longer than the others."""

    def answers(command: str) -> Answer:
        return answer if int(command.partition("size=")[2]) > LONG else "250 ok"

    return OFFERS | {"MAIL": answers}


def a_mailer(sessions: Sessions, server: SmtpServer, **values: int) -> Delivery:
    return delivery(sessions, Transport(settings(server.port)), **values)


def record_some(sessions: Sessions, count: int, *, bad: bool = False) -> None:
    """Record emails; with `bad`, the first is one that the server rejects."""
    if bad:
        lines = [{"sku": "COFFEE" * 20, "quantity": 1, "unit_price": 1}] * 50
        record(sessions, "received", recipient=BAD, context=CONTEXT | {"lines": lines})
    for _ in range(count):
        record(sessions, "received")


def deliver_until(mailer: Delivery, sessions: Sessions, done: Callable[[], None]) -> None:
    """Deliver emails without waiting for their next attempt, until the check passes."""

    def check() -> None:
        make_due(sessions)
        mailer.deliver(time.monotonic() + 0.3)
        mailer.finish(within=60)
        done()

    eventually(check)


def states(sessions: Sessions) -> list[tuple[str, bool]]:
    """Return each email's status, and whether an attempt was charged to it."""
    return [(row.status, row.attempts > 0) for row in rows(sessions)]


def outages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.message for r in caplog.records if r.message == "mail server unavailable"]


@pytest.mark.parametrize(
    "answers",
    [
        at_sender("550 not you"),
        at_sender("552 too big"),
        at_recipient("550 no such user"),
        at_recipient("554-no\r\n554 5.7.1 policy"),
    ],
    ids=["MAIL 550", "MAIL 552", "RCPT 550", "RCPT 554"],
)
def test_a_permanently_rejected_mail_fails_without_a_pause(
    notification_database: Sessions, caplog: pytest.LogCaptureFixture, answers: Answers
) -> None:
    record_some(notification_database, 5, bad=True)
    with serving(answers) as server:
        mailer = a_mailer(notification_database, server)

        def settled() -> None:
            assert states(notification_database)[1:] == [("SENT", True)] * 5
            assert states(notification_database)[0] == ("FAILED", True)

        deliver_until(mailer, notification_database, settled)
        mailer.close()
    assert outages(caplog) == []
    assert rows(notification_database)[0].attempts == 1


@pytest.mark.parametrize(
    "answers",
    [at_sender(DROP), at_recipient(DROP), at_recipient("nonsense"), at_sender("451 later")],
    ids=["MAIL drop", "RCPT drop", "RCPT nonsense", "MAIL 451"],
)
def test_a_mail_that_always_fails_is_charged_without_a_pause(
    notification_database: Sessions, caplog: pytest.LogCaptureFixture, answers: Answers
) -> None:
    record_some(notification_database, 2, bad=True)
    with serving(answers) as server:
        mailer = a_mailer(notification_database, server, max_attempts=2)

        def given_up() -> None:
            record_some(notification_database, 1)
            assert states(notification_database)[0] == ("FAILED", True)

        deliver_until(mailer, notification_database, given_up)
        deliver_until(
            mailer, notification_database, lambda: assert_others_sent(notification_database)
        )
        mailer.close()
    assert outages(caplog) == []


@pytest.mark.parametrize(
    "answers",
    [
        {"MAIL": "550 who are you"},
        {"MAIL": "451 too many from you"},
        {"MAIL": DROP},
        {"RCPT": DROP},
        {"DATA": "nonsense"},
        {"RCPT": "421 going down"},
    ],
    ids=["MAIL 550", "MAIL 451", "MAIL drop", "RCPT drop", "DATA nonsense", "RCPT 421"],
)
def test_a_failure_of_every_mail_is_an_outage_charged_to_no_mail(
    notification_database: Sessions, caplog: pytest.LogCaptureFixture, answers: Answers
) -> None:
    record_some(notification_database, 6)
    with serving(answers) as server:
        mailer = a_mailer(notification_database, server, max_attempts=2)

        # Given more failures than an email has attempts
        def failed_often() -> None:
            assert len(outages(caplog)) == 1
            assert len([c for c in server.commands if c.startswith("MAIL")]) >= 5

        deliver_until(mailer, notification_database, failed_often)
        assert states(notification_database) == [("PENDING", False)] * 6

        # When the server accepts emails again
        server.answers |= {"MAIL": "250 ok", "RCPT": "250 ok", "DATA": "354 go on"}
        deliver_until(mailer, notification_database, lambda: assert_sent(notification_database, 6))
        mailer.close()

    # Then each email is delivered once, and the outage was logged once
    assert set(server.copies.values()) == {1}
    assert len(outages(caplog)) == 1
    assert [r.message for r in caplog.records].count("mail delivery resumed") <= 1


@pytest.mark.parametrize(
    ("offers", "odd"),
    [
        ({}, {"context": {}}),
        ({}, {"recipient": "j\u00f6rg@example.com"}),
        ({"EHLO": "250-here\r\n250 SMTPUTF8"}, {"recipient": "j\u00f6rg@example.com"}),
    ],
    ids=["no template can render", "requires SMTPUTF8", "uses SMTPUTF8"],
)
def test_a_failure_of_an_odd_mail_is_no_evidence_for_the_server(
    notification_database: Sessions,
    caplog: pytest.LogCaptureFixture,
    offers: Answers,
    odd: dict[str, Any],
) -> None:
    # Given a server that rejects every sender, and some emails that are unlike the others
    record_some(notification_database, 3)
    for _ in range(3):
        record(notification_database, "received", **odd)
    with serving(offers | {"MAIL": "550 who are you"}) as server:
        mailer = a_mailer(notification_database, server)

        # When each of them has failed several times
        def failed_often() -> None:
            assert len([c for c in server.commands if c.startswith("MAIL")]) >= 6
            assert all(row.last_error for row in rows(notification_database))

        deliver_until(mailer, notification_database, failed_often)

        # Then the server's failures are charged to no other email
        assert states(notification_database)[:3] == [("PENDING", False)] * 3
        assert len(outages(caplog)) == 1

        server.answers["MAIL"] = "250 ok"

        def resumed() -> None:
            assert [status for status, _ in states(notification_database)][:3] == ["SENT"] * 3

        deliver_until(mailer, notification_database, resumed)
        mailer.close()


def test_a_server_that_rejects_every_recipient_fails_few_mails(
    notification_database: Sessions,
) -> None:
    more = 5
    record_some(notification_database, REFUSED_LIMIT + more)
    with serving({"RCPT": "554 relay access denied"}) as server:
        mailer = a_mailer(notification_database, server)

        def refused() -> None:
            assert all(charged for _, charged in states(notification_database))

        deliver_until(mailer, notification_database, refused)
        final = [status for status, _ in states(notification_database)]
        assert final == ["FAILED"] * REFUSED_LIMIT + ["PENDING"] * more

        server.answers["RCPT"] = "250 ok"
        deliver_until(
            mailer,
            notification_database,
            lambda: assert_kept_ones_sent(notification_database, more),
        )
        mailer.close()


def test_a_single_mail_with_a_rejected_sender_stays_pending(
    notification_database: Sessions,
) -> None:
    record_some(notification_database, 0, bad=True)
    with serving(at_sender("550 not you")) as server:
        mailer = a_mailer(notification_database, server)

        def refused_often() -> None:
            assert len([c for c in server.commands if c.startswith("MAIL")]) >= 4

        deliver_until(mailer, notification_database, refused_often)
        assert states(notification_database) == [("PENDING", False)]

        record_some(notification_database, 1)

        def settled() -> None:
            assert states(notification_database) == [("FAILED", True), ("SENT", True)]

        deliver_until(mailer, notification_database, settled)
        mailer.close()


def assert_sent(sessions: Sessions, count: int) -> None:
    assert [status for status, _ in states(sessions)] == ["SENT"] * count


def assert_others_sent(sessions: Sessions) -> None:
    assert {status for status, _ in states(sessions)[1:]} == {"SENT"}


def assert_kept_ones_sent(sessions: Sessions, count: int) -> None:
    assert [status for status, _ in states(sessions)][-count:] == ["SENT"] * count
