"""What the mailer reads besides the settings of every service."""

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from common.dedup_window import DedupWindow
from common.settings import ServiceSettings
from notification_worker import address


class MailerSettings(DedupWindow, ServiceSettings):
    """What the process that sends the mails reads."""

    smtp_host: str = Field("127.0.0.1", min_length=1)
    smtp_port: int = Field(25, ge=1, le=65535)
    #: Seconds for each answer of the mail server. One mail waits for four of them, inside a
    #: transaction that the database ends after 60 idle seconds (see `common.db`).
    smtp_timeout: float = Field(10.0, gt=0, le=14)
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
    #: Encrypt the connection and verify the server's name.
    smtp_starttls: bool = Field(False, validate_default=True)

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

    @field_validator("smtp_starttls")
    @classmethod
    def _encrypted_login(cls, value: bool, info: ValidationInfo) -> bool:
        if info.data.get("smtp_username") and not value:
            raise ValueError("must be true with SMTP_USERNAME: a password never travels in clear")
        return value
