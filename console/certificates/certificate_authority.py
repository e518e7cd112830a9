"""A private certificate authority: a directory with its own and all signed certificates."""

import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from console.certificates.certificate_file import Certificate, described, read, write
from console.errors import ActionError

#: The servers that receive a certificate. If root writes the file, it belongs to the user of that
#: name.
SERVERS = ("rabbitmq", "postgres")

#: The validity of the CA's certificate. It is ten years, because every client has a copy, so the
#: expiry causes a complete outage.
CA_LIFETIME = timedelta(days=3650)

#: The validity of the certificates of servers and clients. A year is long enough for unattended
#: operation, and short enough that the renewal, which is one command without a restart, is
#: familiar.
LIFETIME = timedelta(days=365)

#: `init` renews certificates whose remaining validity is shorter.
RENEWAL = timedelta(days=30)

#: The time between the start of a certificate's validity and its creation. A client's clock may be
#: behind, by hours if it is set incorrectly. Until a certificate is valid by the client's clock,
#: the client can connect neither to the database nor to the broker.
_CLOCK_SKEW = timedelta(days=1)

_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


class Authority:
    """The certificate authority in `directory`. Every method raises `ActionError`."""

    def __init__(self, directory: Path, names: Sequence[str] = ()) -> None:
        self.certificate_file = directory / "ca.crt"
        self._directory = directory
        self._key_file = directory / "ca.key"
        self._names = tuple(dict.fromkeys(_normal(name) for name in (*_LOCAL_NAMES, *names)))

    def server_file(self, server: str) -> Path:
        """Return the file with a server's key and certificate.

        Both are in one file, which is replaced in one step, so a reader never finds a key that does
        not match its certificate.
        """
        return self._directory / f"{server}.pem"

    def client_file(self, user: str) -> Path:
        """Return the file with a broker user's key and certificate."""
        return self._directory / "clients" / f"{user}.pem"

    def init(self, clients: Iterable[str] = ()) -> Iterator[Certificate]:
        """Create certificates that are missing, expire soon, or have other names or another issuer.

        Yields each certificate. `clients` are the broker users that must have a certificate.
        Certificates of other users are renewed if they exist.
        """
        with self._only_one():
            if self._is_missing():
                yield self._create()
            authority, _ = self._load()
            for server in SERVERS:
                if _needs_renewal(self.server_file(server), authority, self._names):
                    yield self.issue(server)
            for user in sorted({*clients, *self._clients()}):
                if _needs_renewal(self.client_file(user), authority):
                    yield self.issue_client(user)

    def renew(self) -> Iterator[Certificate]:
        """Replace every key and certificate except the CA's own, which all clients trust."""
        self._load()
        with self._only_one():
            for server in SERVERS:
                yield self.issue(server)
            for user in self._clients():
                yield self.issue_client(user)

    def issue(self, server: str, *, lifetime: timedelta = LIFETIME) -> Certificate:
        """Replace a server's key and certificate, with a validity of `lifetime`."""
        return self._issue(
            self.server_file(server), server, ExtendedKeyUsageOID.SERVER_AUTH, lifetime, server
        )

    def issue_client(self, user: str, *, lifetime: timedelta = LIFETIME) -> Certificate:
        """Replace a user's key and certificate, with a validity of `lifetime`."""
        return self._issue(
            self.client_file(user), user, ExtendedKeyUsageOID.CLIENT_AUTH, lifetime, None
        )

    def show(self) -> list[Certificate]:
        """Return every certificate, starting with the CA's certificate."""
        return [described(f, read(f)) for f in (self.certificate_file, *self._signed_files())]

    def _issue(
        self,
        file: Path,
        name: str,
        usage: x509.ObjectIdentifier,
        lifetime: timedelta,
        owner: str | None,
    ) -> Certificate:
        authority, authority_key = self._load()
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(name, key.public_key(), lifetime)
            .issuer_name(authority.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
                critical=False,
            )
        )
        if usage == ExtendedKeyUsageOID.SERVER_AUTH:
            names = x509.SubjectAlternativeName(_general_names(self._names))
            builder = builder.add_extension(names, critical=False)
        certificate = builder.sign(authority_key, hashes.SHA256())
        write(file, _pem(key) + certificate.public_bytes(Encoding.PEM), owner=owner)
        return described(file, certificate)

    def _clients(self) -> list[str]:
        return sorted(file.stem for file in self._directory.glob("clients/*.pem"))

    def _signed_files(self) -> list[Path]:
        servers = [self.server_file(server) for server in SERVERS]
        return [*servers, *(self.client_file(user) for user in self._clients())]

    @contextmanager
    def _only_one(self) -> Iterator[None]:
        """Lock the directory, which is created if it is missing, against other commands."""
        try:
            self._directory.mkdir(mode=0o755, parents=True, exist_ok=True)
            descriptor = os.open(self._directory, os.O_RDONLY)
        except OSError as error:
            raise ActionError(f"{self._directory} cannot be used: {error.strerror}") from None
        try:
            _lock(descriptor, self._directory)
            yield
        finally:
            os.close(descriptor)

    def _is_missing(self) -> bool:
        """Return whether the CA is to be created.

        Raises `ActionError` if one of its files is missing and existing certificates depend on it.
        """
        files = (self.certificate_file, self._key_file)
        missing = [file for file in files if not file.exists()]
        # If only the key exists, the creation of the CA was interrupted, and the key has signed
        # nothing. The clients of an existing CA would not trust a new one.
        if missing and (missing == [self._key_file] or any(map(Path.exists, self._signed_files()))):
            raise ActionError(f"{missing[0]} is missing; restore it, or delete its directory")
        return bool(missing)

    def _create(self) -> Certificate:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder("orders CA", key.public_key(), CA_LIFETIME)
        certificate = (
            builder.issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "orders CA")]))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(key_cert_sign=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        # The certificate is written last, because without it, another run creates both again.
        write(self._key_file, _pem(key))
        write(self.certificate_file, certificate.public_bytes(Encoding.PEM), mode=0o644)
        return described(self.certificate_file, certificate)

    def _load(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        certificate = read(self.certificate_file)
        try:
            key = load_pem_private_key(self._key_file.read_bytes(), None)
        except (OSError, ValueError, TypeError) as error:
            raise ActionError(f"{self._key_file} cannot be read: {error}") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ActionError(f"{self._key_file} is not an elliptic curve key")
        if certificate.public_key() != key.public_key():
            raise ActionError(
                f"{self._key_file} is not the key of {self.certificate_file}; restore the right one"
            )
        return certificate, key


def _lock(descriptor: int, directory: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ActionError(f"another command changes {directory}: wait until it ends") from None


def _needs_renewal(file: Path, authority: x509.Certificate, names: Sequence[str] = ()) -> bool:
    if not file.exists():
        return True
    certificate = read(file)
    current = described(file, certificate)
    is_expected = current.left >= RENEWAL and set(current.names) == set(names)
    return not (is_expected and _is_issued_by(authority, certificate))


def _is_issued_by(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _builder(
    name: str, key: ec.EllipticCurvePublicKey, lifetime: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, now + lifetime) - _CLOCK_SKEW)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, digital_signature: bool = False, key_cert_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _normal(name: str) -> str:
    """Return the form of a name in which certificates are compared with the setting."""
    try:
        return str(ip_address(name))
    except ValueError:
        return name


def _general_names(names: Sequence[str]) -> list[x509.GeneralName]:
    general_names: list[x509.GeneralName] = []
    for name in names:
        try:
            general_names.append(x509.IPAddress(ip_address(name)))
        except ValueError:
            general_names.append(x509.DNSName(name))
    return general_names


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
