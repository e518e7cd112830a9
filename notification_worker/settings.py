"""What the mailer reads besides the settings of every service."""

import ssl
from enum import StrEnum

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from eventbus.settings.base import CaFile
from eventbus.settings.dedup_window import DedupWindow
from eventbus.settings.service import ServiceSettings
from notification_worker.mail import address
from notification_worker.smtp.submission import Limits

#: The port on which mail servers speak TLS from the first byte (RFC 8314).
_SUBMISSIONS = 465


class Tls(StrEnum):
    """How the connection to the mail server is encrypted."""

    NONE = "none"
    #: In clear first, then by the command STARTTLS; without it nothing is sent.
    STARTTLS = "starttls"
    #: From the first byte.
    IMPLICIT = "implicit"


class MailerSettings(DedupWindow, ServiceSettings):
    """What the process that sends the mails reads."""

    smtp_host: str = Field("127.0.0.1", min_length=1)
    smtp_port: int = Field(25, ge=1, le=65535)
    #: Seconds for each step before the first mail: connection, greeting, TLS, EHLO, login. Servers
    #: that delay their greeting on purpose take half of it; an outage is noticed after all of it.
    smtp_connect_timeout: float = Field(60.0, gt=0, le=3600)
    #: Seconds for the answer to MAIL and to RCPT each, as RFC 5321 (4.5.3.2) recommends: a server
    #: may ask others about an address. Nothing but a connection waits.
    smtp_mail_timeout: float = Field(300.0, gt=0, le=3600)
    smtp_rcpt_timeout: float = Field(300.0, gt=0, le=3600)
    #: Seconds for the answer to DATA (RFC 5321).
    smtp_data_timeout: float = Field(120.0, gt=0, le=3600)
    #: Seconds to send the content (RFC 5321, for each of its blocks: these mails have one).
    smtp_block_timeout: float = Field(180.0, gt=0, le=3600)
    #: Seconds for the answer to the content (RFC 5321). A client that gives up earlier than the
    #: server answers sends the mail twice.
    smtp_accept_timeout: float = Field(600.0, gt=0, le=3600)
    #: Connections. One sends the mails; the others are opened while it waits for a slow answer.
    #: Fewer than the ten that mail servers commonly allow one client.
    smtp_connections: int = Field(8, ge=1, le=100)
    #: `Name <name@domain>`: the name signs the mails, the domain is part of their Message-IDs.
    mail_from: str
    #: Who runs the shop: gets the mails about orders that look like fraud. None means `mail_from`,
    #: so that they arrive where customers' answers do.
    operator_email: str | None = None
    #: Attempts. With the waits of `domain.retry_delay` the last one is about two days after the
    #: first: as long as mail servers themselves try, and a weekend for a full mailbox.
    mail_max_attempts: int = Field(230, ge=1)
    #: Added to the process's nice value. A mail may be a second late: on a busy machine those who
    #: decide orders go first.
    mailer_niceness: int = Field(10, ge=0, le=19)
    #: Days after a mail was recorded, if it does not wait any more. A quarter, in which customers
    #: ask what they were told; a row holds their address.
    notification_retention_days: int = Field(90, ge=1, le=3650)
    #: Only for a mail server that asks for a login.
    smtp_username: str | None = None
    smtp_password: SecretStr | None = Field(None, validate_default=True)
    #: The older name of `SMTP_TLS=starttls`.
    smtp_starttls: bool = False
    #: Encrypt the connection, and verify the server's certificate and name. None: as
    #: `smtp_starttls` says.
    smtp_tls: Tls | None = Field(None, validate_default=True)
    #: The authority that signed the server's certificate; the system's authorities unless set.
    smtp_ca_file: CaFile | None = Field(None, validate_default=True)

    @field_validator("mail_from")
    @classmethod
    def _sender(cls, value: str) -> str:
        address.sender(value)
        return value

    @field_validator("operator_email")
    @classmethod
    def _operator(cls, value: str | None) -> str | None:
        return value and address.ascii_domain(value)

    @property
    def operator(self) -> str:
        """The operator's address."""
        return self.operator_email or address.sender(self.mail_from).addr_spec

    @field_validator("smtp_password")
    @classmethod
    def _login(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if (value is None) != (info.data.get("smtp_username") is None):
            raise ValueError("SMTP_USERNAME and SMTP_PASSWORD come together or not at all")
        return value

    @field_validator("smtp_tls")
    @classmethod
    def _encryption(cls, value: Tls | None, info: ValidationInfo) -> Tls:
        starttls = info.data.get("smtp_starttls", False)
        tls = value or (Tls.STARTTLS if starttls else Tls.NONE)
        if starttls and tls is not Tls.STARTTLS:
            raise ValueError("contradicts SMTP_STARTTLS; SMTP_TLS alone is enough")
        if info.data.get("smtp_username") and tls is Tls.NONE:
            raise ValueError("required with SMTP_USERNAME: a password never travels in clear")
        if info.data.get("smtp_port") == _SUBMISSIONS and tls is not Tls.IMPLICIT:
            raise ValueError("must be implicit with SMTP_PORT=465, which speaks TLS at once")
        return tls

    @field_validator("smtp_ca_file")
    @classmethod
    def _authority(cls, value: CaFile | None, info: ValidationInfo) -> CaFile | None:
        if value and info.data.get("smtp_tls") is Tls.NONE:
            raise ValueError("has no use without SMTP_TLS")
        return value

    @property
    def tls(self) -> Tls:
        """How the connection is encrypted."""
        return self.smtp_tls or Tls.NONE

    @property
    def smtp_limits(self) -> Limits:
        """Seconds for each step of one mail."""
        return Limits(
            mail=self.smtp_mail_timeout,
            rcpt=self.smtp_rcpt_timeout,
            data=self.smtp_data_timeout,
            block=self.smtp_block_timeout,
            accept=self.smtp_accept_timeout,
        )

    @property
    def smtp_context(self) -> ssl.SSLContext:
        """What the mail server must prove: a chain to the authority, and its name.

        Read at each connect: a renewed file needs no restart.
        """
        return ssl.create_default_context(cafile=self.smtp_ca_file)
