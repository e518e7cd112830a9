"""A private certificate authority: a directory with its certificate and those it has signed."""

import os
import pwd
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from console.errors import ActionError

#: The servers that receive a certificate; if root writes it, the user of that name owns it.
SERVERS = ("rabbitmq", "postgres")

#: Ten years: every client has a copy of it, so its expiry is an outage of everything at once.
CA_LIFETIME = timedelta(days=3650)

#: Of servers and clients. A year: long enough for an unattended run, and short enough that the
#: renewal, which is one command without a restart, is familiar.
LIFETIME = timedelta(days=365)

#: `init` renews certificates whose remaining validity is shorter.
RENEWAL = timedelta(days=30)

#: A client's clock may be slow, by hours if it is set wrong: until a certificate is valid there,
#: that client can reach neither the database nor the broker.
_CLOCK_SKEW = timedelta(days=1)

_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")

#: A certificate in PEM format: a server's file also contains its key.
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
        """The remaining validity; negative after the expiry."""
        return self.not_after - datetime.now(UTC)


class Authority:
    """The authority whose files are in `directory`. Every method raises `ActionError`."""

    def __init__(self, directory: Path, names: Sequence[str] = ()) -> None:
        self.certificate_file = directory / "ca.crt"
        self._directory = directory
        self._key_file = directory / "ca.key"
        self._names = tuple(dict.fromkeys((*_LOCAL_NAMES, *names)))

    def server_file(self, server: str) -> Path:
        """Return the file with a server's key and certificate.

        One file rather than two: it is replaced in one step, so a reader never finds a key that
        does not match its certificate.
        """
        return self._directory / f"{server}.pem"

    def client_file(self, user: str) -> Path:
        """Return the file with a broker user's key and certificate."""
        return self._directory / "clients" / f"{user}.pem"

    def init(self, clients: Iterable[str] = ()) -> Iterator[Certificate]:
        """Create certificates that are missing, expire soon or have other names; yield each one.

        `clients` are the broker users that must have one. Those of other users are renewed if they
        exist.
        """
        files = (self.certificate_file, self._key_file)
        missing = [file for file in files if not file.exists()]
        if missing:
            # The clients of the existing authority would not trust a new one.
            if len(missing) < len(files) or any(map(Path.exists, self._signed_files())):
                raise ActionError(f"{missing[0]} is missing; restore it, or delete its directory")
            yield self._create()
        for server in SERVERS:
            if _needs_renewal(self.server_file(server), self._names):
                yield self.issue(server)
        for user in sorted({*clients, *self._clients()}):
            if _needs_renewal(self.client_file(user), ()):
                yield self.issue_client(user)

    def renew(self) -> Iterator[Certificate]:
        """Replace every key and certificate except the authority's own, which all clients trust."""
        for server in SERVERS:
            yield self.issue(server)
        for user in self._clients():
            yield self.issue_client(user)

    def issue(self, server: str, *, lifetime: timedelta = LIFETIME) -> Certificate:
        """Replace a server's key and certificate by new ones that are valid for `lifetime`."""
        return self._issue(
            self.server_file(server), server, ExtendedKeyUsageOID.SERVER_AUTH, lifetime, server
        )

    def issue_client(self, user: str, *, lifetime: timedelta = LIFETIME) -> Certificate:
        """Replace a broker user's key and certificate by new ones that are valid for `lifetime`."""
        return self._issue(
            self.client_file(user), user, ExtendedKeyUsageOID.CLIENT_AUTH, lifetime, None
        )

    def show(self) -> list[Certificate]:
        """Return every certificate, the authority's own first."""
        return [_described(f, _read(f)) for f in (self.certificate_file, *self._signed_files())]

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
        _write(file, _pem(key) + certificate.public_bytes(Encoding.PEM), owner=owner)
        return _described(file, certificate)

    def _clients(self) -> list[str]:
        return sorted(file.stem for file in self._directory.glob("clients/*.pem"))

    def _signed_files(self) -> list[Path]:
        servers = [self.server_file(server) for server in SERVERS]
        return [*servers, *(self.client_file(user) for user in self._clients())]

    def _create(self) -> Certificate:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder("orders CA", key.public_key(), CA_LIFETIME)
        certificate = (
            builder.issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "orders CA")]))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(key_cert_sign=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        _write(self._key_file, _pem(key))
        _write(self.certificate_file, certificate.public_bytes(Encoding.PEM), mode=0o644)
        return _described(self.certificate_file, certificate)

    def _load(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        certificate = _read(self.certificate_file)
        try:
            key = load_pem_private_key(self._key_file.read_bytes(), None)
        except (OSError, ValueError, TypeError) as error:
            raise ActionError(f"{self._key_file} cannot be read: {error}") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ActionError(f"{self._key_file} is not an elliptic curve key")
        return certificate, key


def _needs_renewal(file: Path, names: Sequence[str]) -> bool:
    if not file.exists():
        return True
    certificate = _described(file, _read(file))
    return certificate.left < RENEWAL or set(certificate.names) != set(names)


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


def _read(file: Path) -> x509.Certificate:
    try:
        pem = _CERTIFICATE.search(file.read_bytes())
        if not pem:
            raise ActionError(f"{file} does not contain a certificate")
        return x509.load_pem_x509_certificate(pem[0])
    except FileNotFoundError:
        raise ActionError(f"{file} does not exist; create it with: orderctl tls init") from None
    except (OSError, ValueError) as error:
        raise ActionError(f"{file} cannot be read: {error}") from None


def _described(file: Path, certificate: x509.Certificate) -> Certificate:
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


def _write(file: Path, content: bytes, *, owner: str | None = None, mode: int = 0o600) -> None:
    """Write a file atomically; one of mode 0600 can never be read by another user."""
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
