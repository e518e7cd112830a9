"""The mailer's settings, in addition to the settings of every service."""

import ssl
from enum import StrEnum

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from eventbus.settings.base import CaFile
from eventbus.settings.dedup_window import DedupWindow
from eventbus.settings.service import ServiceSettings
from notification_worker.mail import address
from notification_worker.smtp.submission import Limits

#: The port for TLS from the first byte (RFC 8314).
_SUBMISSIONS = 465


class Tls(StrEnum):
    """The encryption of the connection to the mail server."""

    NONE = "none"
    #: The connection is in plaintext until the command STARTTLS. A server that does not support
    #: STARTTLS receives no email.
    STARTTLS = "starttls"
    #: The connection uses TLS from the first byte.
    IMPLICIT = "implicit"


class MailerSettings(DedupWindow, ServiceSettings):
    """The settings of the process that sends the emails."""

    smtp_host: str = Field("127.0.0.1", min_length=1)
    smtp_port: int = Field(25, ge=1, le=65535)
    #: Seconds for each step before the first email: connection, greeting, TLS, EHLO, login. Servers
    #: that intentionally delay their greeting take half of this time. The detection of an outage
    #: may take all of this time.
    smtp_connect_timeout: float = Field(60.0, gt=0, le=3600)
    #: Seconds for the reply to MAIL and to RCPT, as RFC 5321 (4.5.3.2) recommends: a server may
    #: query other servers about an address. Only this connection waits.
    smtp_mail_timeout: float = Field(300.0, gt=0, le=3600)
    smtp_rcpt_timeout: float = Field(300.0, gt=0, le=3600)
    #: Seconds for the reply to DATA (RFC 5321).
    smtp_data_timeout: float = Field(120.0, gt=0, le=3600)
    #: Seconds to send the content. RFC 5321 recommends this value for each block, and these emails
    #: have only one.
    smtp_block_timeout: float = Field(180.0, gt=0, le=3600)
    #: Seconds for the reply to the content (RFC 5321). A client that gives up before the server
    #: replies sends the email twice.
    smtp_accept_timeout: float = Field(600.0, gt=0, le=3600)
    #: Maximum number of connections. One of them sends the emails. The rest are opened only while
    #: it waits for a slow reply. The value is below the ten connections that mail servers commonly
    #: allow per client.
    smtp_connections: int = Field(8, ge=1, le=100)
    #: The sender, as `Name <name@domain>`. Emails are signed with the name, and Message-IDs contain
    #: the domain.
    mail_from: str
    #: The address of the operator, for emails about suspected orders. None means `mail_from`, the
    #: address at which customers' replies arrive.
    operator_email: str | None = None
    #: Maximum number of attempts. With the delays of `domain.retry_delay`, the last attempt is
    #: about two days after the first. Mail servers retry for as long, and a mailbox may be full for
    #: a weekend.
    mail_max_attempts: int = Field(230, ge=1, le=100_000)
    #: Days for which emails are kept after they were recorded, unless they are pending. The default
    #: is a quarter of a year, in which customers ask about their emails. A row contains the
    #: customer's address.
    notification_retention_days: int = Field(90, ge=1, le=3650)
    #: The user name and password, which only some mail servers require.
    smtp_username: str | None = None
    smtp_password: SecretStr | None = Field(None, validate_default=True)
    #: The older form of `SMTP_TLS=starttls`.
    smtp_starttls: bool = False
    #: The encryption of the connection; the server's certificate and name are verified. None means
    #: the value of `smtp_starttls`.
    smtp_tls: Tls | None = Field(None, validate_default=True)
    #: The certificate of the CA that issued the server's certificate. The default is the system's
    #: CA certificates.
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
        """The address of the operator."""
        return self.operator_email or address.sender(self.mail_from).addr_spec

    @field_validator("smtp_password")
    @classmethod
    def _login(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if (value is None) != (info.data.get("smtp_username") is None):
            raise ValueError("SMTP_USERNAME and SMTP_PASSWORD must be set together")
        return value

    @field_validator("smtp_tls")
    @classmethod
    def _encryption(cls, value: Tls | None, info: ValidationInfo) -> Tls:
        starttls = info.data.get("smtp_starttls", False)
        tls = value or (Tls.STARTTLS if starttls else Tls.NONE)
        if starttls and tls is not Tls.STARTTLS:
            raise ValueError("contradicts SMTP_STARTTLS; set only SMTP_TLS")
        if info.data.get("smtp_username") and tls is Tls.NONE:
            raise ValueError("required with SMTP_USERNAME: a password is never sent in plaintext")
        if info.data.get("smtp_port") == _SUBMISSIONS and tls is not Tls.IMPLICIT:
            raise ValueError("must be implicit with SMTP_PORT=465, a port for implicit TLS")
        return tls

    @field_validator("smtp_ca_file")
    @classmethod
    def _authority(cls, value: CaFile | None, info: ValidationInfo) -> CaFile | None:
        if value and info.data.get("smtp_tls") is Tls.NONE:
            raise ValueError("has no effect without SMTP_TLS")
        return value

    @property
    def tls(self) -> Tls:
        """The encryption of the connection."""
        return self.smtp_tls or Tls.NONE

    @property
    def smtp_limits(self) -> Limits:
        """The limits of the steps of one email, in seconds."""
        return Limits(
            mail=self.smtp_mail_timeout,
            rcpt=self.smtp_rcpt_timeout,
            data=self.smtp_data_timeout,
            block=self.smtp_block_timeout,
            accept=self.smtp_accept_timeout,
        )

    @property
    def smtp_context(self) -> ssl.SSLContext:
        """The TLS context, which requires a chain to the CA and the server's name.

        The file is read at each connection, so a renewed file requires no restart.
        """
        return ssl.create_default_context(cafile=self.smtp_ca_file)
