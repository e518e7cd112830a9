"""Mailers with several connections that run during a test."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

from eventbus.database.db import Sessions
from notification_worker.delivery import Delivery
from notification_worker.smtp.transport import Transport
from testkit.mail.mailing import delivery, settings, statuses
from testkit.mail.smtp_server import Answers, SmtpServer

#: The connections of each mailer.
SENDERS = 4


def a_mailer(sessions: Sessions, server: SmtpServer, **limits: float) -> Delivery:
    """Return a mailer with several connections."""
    mailer_settings = settings(server.port, **limits)
    return delivery(sessions, *(Transport(mailer_settings) for _ in range(SENDERS)))


@contextmanager
def mailing(mailer: Delivery) -> Iterator[None]:
    """Run a mailer for the block, as its process does."""
    stopped: list[bool] = []

    def work() -> None:
        while not stopped:
            mailer.deliver(time.monotonic() + 0.2)

    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.append(True)
        thread.join()
        mailer.close()


def first_content(answer: Any) -> Answers:
    """Return replies that consist of this reply to the first content, and of acceptances."""
    first: list[str] = []

    def answers(message_id: str) -> Any:
        first.append(message_id)
        return answer if message_id == first[0] else "250 taken"

    return {"CONTENT": answers}


def all_sent(sessions: Sessions, count: int) -> Callable[[], None]:
    """Return a check that there are `count` emails, and that all are sent."""

    def check() -> None:
        assert statuses(sessions) == ["SENT"] * count

    return check


def content_count(server: SmtpServer, count: int) -> Callable[[], None]:
    """Return a check that a server has received `count` contents."""

    def check() -> None:
        assert len(server.contents) == count

    return check
