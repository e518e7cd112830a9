"""Certificate files, which are replaced atomically."""

import os
import pwd
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from console.errors import ActionError

#: The pattern of a certificate in PEM format. A server's file also contains its key.
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """A certificate in the directory, and its expiry."""

    file: Path
    subject: str
    names: tuple[str, ...]
    not_after: datetime

    @property
    def left(self) -> timedelta:
        """The remaining validity, which is negative after the expiry."""
        return self.not_after - datetime.now(UTC)


def read(file: Path) -> x509.Certificate:
    """Return the certificate in a file. Raises `ActionError` if it contains none."""
    try:
        pem = _CERTIFICATE.search(file.read_bytes())
        if not pem:
            raise ActionError(f"{file} does not contain a certificate")
        return x509.load_pem_x509_certificate(pem[0])
    except FileNotFoundError:
        raise ActionError(f"{file} does not exist; create it with: orderctl tls init") from None
    except (OSError, ValueError) as error:
        raise ActionError(f"{file} cannot be read: {error}") from None


def described(file: Path, certificate: x509.Certificate) -> Certificate:
    """Return the facts about a certificate that an operator needs."""
    names: tuple[str, ...] = ()
    with suppress(x509.ExtensionNotFound):
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = tuple(str(name.value) for name in alternatives.value)
    return Certificate(
        file=file,
        subject=certificate.subject.rfc4514_string(),
        names=names,
        not_after=certificate.not_valid_after_utc,
    )


def write(file: Path, content: bytes, *, owner: str | None = None, mode: int = 0o600) -> None:
    """Write a file atomically. No other user can ever read a file of mode 0600.

    If root writes it, its owner stays, or is `owner` if that user exists. Raises `ActionError`.
    """
    partial = file.with_name(f"{file.name}.partial")
    try:
        file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)
        partial.touch(0o600)
        partial.write_bytes(content)
        _set_owner(partial, like=file, owner=owner)
        partial.chmod(mode)
        partial.replace(file)
    except OSError as error:
        raise ActionError(f"{file} cannot be written: {error.strerror}") from None


def _set_owner(partial: Path, *, like: Path, owner: str | None) -> None:
    # Servers do not run as root, but must read files that root has written.
    if os.geteuid() != 0:
        return
    if like.exists():
        os.chown(partial, like.stat().st_uid, like.stat().st_gid)
    elif owner:
        with suppress(KeyError):
            user = pwd.getpwnam(owner)
            os.chown(partial, user.pw_uid, user.pw_gid)
