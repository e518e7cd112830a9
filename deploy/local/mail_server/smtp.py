"""The SMTP side: every mail is taken."""

import asyncio
import logging
import threading

from aiosmtpd.smtp import SMTP, Envelope, Session

from deploy.local.mail_server.mailbox import Mailbox

#: Bytes of one mail.
SIZE_LIMIT = 10_000_000


class _Handler:
    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    async def handle_EHLO(  # noqa: N802 - aiosmtpd's name
        self,
        _server: SMTP,
        session: Session,
        _envelope: Envelope,
        hostname: str,
        responses: list[str],
    ) -> list[str]:
        session.host_name = hostname
        # It reads one command after the other from what has arrived.
        return [responses[0], "250-PIPELINING", *responses[1:]]

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        content = envelope.content
        assert isinstance(content, bytes)
        self._mailbox.add(envelope.mail_from or "", tuple(envelope.rcpt_tos), content)
        return "250 kept"


def listen(mailbox: Mailbox, host: str, port: int) -> None:
    """Take mails, on a thread, until the process ends. Raises `OSError` if the port is taken."""
    # It logs five lines of each mail.
    logging.getLogger("mail.log").setLevel(logging.ERROR)
    loop = asyncio.new_event_loop()
    handler = _Handler(mailbox)

    def conversation() -> SMTP:
        return SMTP(handler, data_size_limit=SIZE_LIMIT, enable_SMTPUTF8=True, loop=loop)

    loop.run_until_complete(loop.create_server(conversation, host, port))
    threading.Thread(target=loop.run_forever, name="smtp", daemon=True).start()
