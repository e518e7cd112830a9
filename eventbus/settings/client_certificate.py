"""The certificate by which a process logs in at the broker, and its key: one file, in PEM."""

import ssl
from pathlib import Path
from typing import Annotated

from cryptography import x509
from cryptography.x509.oid import NameOID
from pydantic import AfterValidator


def user(file: Path) -> str:
    """Return the broker user that the certificate logs in; raises `OSError`."""
    names = _read(file).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def not_after(file: Path) -> float:
    """Return when the certificate ends (Unix time); raises `OSError`."""
    return _read(file).not_valid_after_utc.timestamp()


def _read(file: Path) -> x509.Certificate:
    try:
        # The first is the file's own; others lead from it to the authority.
        return x509.load_pem_x509_certificates(file.read_bytes())[0]
    except ValueError:
        raise OSError("it holds no certificate") from None


def _checked(file: Path) -> Path:
    try:
        # With a password, though there is none, so that no encrypted key asks the terminal for it.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(file, password="")
    except ssl.SSLError:
        raise ValueError(f"{file}: it does not hold a key and its certificate") from None
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}") from None
    return file


#: A file whose key and certificate belong together. Whether the broker accepts it, that one says.
ClientCertificateFile = Annotated[Path, AfterValidator(_checked)]
