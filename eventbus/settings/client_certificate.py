"""The certificate and key with which a process authenticates to the broker, in one PEM file."""

import ssl
from pathlib import Path
from typing import Annotated

from cryptography import x509
from cryptography.x509.oid import NameOID
from pydantic import AfterValidator


def user(file: Path) -> str:
    """Return the broker user of the certificate. Raises `OSError`."""
    names = _read(file).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def not_after(file: Path) -> float:
    """Return the expiry of the certificate (Unix time). Raises `OSError`."""
    return _read(file).not_valid_after_utc.timestamp()


def _read(file: Path) -> x509.Certificate:
    try:
        # The first certificate belongs to the client, and the rest form the chain to the CA.
        return x509.load_pem_x509_certificates(file.read_bytes())[0]
    except ValueError:
        raise OSError("it contains no certificate") from None


def _checked(file: Path) -> Path:
    try:
        # The password keeps OpenSSL from prompting for a password on the terminal if the key is
        # encrypted.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(file, password="")
    except ssl.SSLError:
        raise ValueError(f"{file}: it does not contain a key and its certificate") from None
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}") from None
    return file


#: The path of a file with a key and its certificate. Whether the broker accepts them is not
#: checked.
ClientCertificateFile = Annotated[Path, AfterValidator(_checked)]
