"""`orderctl tls`: the private certificate authority, and what it signs."""

import json
from collections.abc import Iterable

import click

from common.kombu_topology import topology
from console.certificates.certificate_authority import Authority, Certificate
from console.settings import TlsSettings, load_operator


@click.group()
def tls() -> None:
    """Make, renew and show the certificates of RabbitMQ, PostgreSQL and their clients."""


@tls.command(epilog="Example: orderctl tls init")
@click.option("--clients", is_flag=True, help="Also one for each broker user, to log in by it.")
def init(*, clients: bool) -> None:
    """Create the authority and the servers' certificates in TLS_DIR, where they are missing.

    A certificate that ends within 30 days, or has other names than TLS_NAMES says, is renewed.
    Running it again changes nothing.
    """
    users = [user.name for user in topology().users] if clients else []
    _tell(_authority().init(users))


@tls.command(epilog="Example: orderctl tls renew")
def renew() -> None:
    """Replace the servers' and clients' keys and certificates; the authority stays.

    RabbitMQ shows the new one at its next connection, PostgreSQL after its next reload; a client
    does at its next connection.
    """
    _tell(_authority().renew())


@tls.command(epilog="Example: orderctl tls show --json")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def show(*, as_json: bool) -> None:
    """Show each certificate and how long it is still valid."""
    found = _authority().show()
    if as_json:
        click.echo(json.dumps([_document(certificate) for certificate in found], indent=2))
        return
    for certificate in found:
        click.echo(_line(certificate))


def _authority() -> Authority:
    settings = load_operator(TlsSettings)
    return Authority(settings.tls_dir, settings.tls_names)


def _tell(made: Iterable[Certificate]) -> None:
    count = 0
    for count, certificate in enumerate(made, start=1):  # noqa: B007, told below
        click.echo(f"made {_line(certificate)}")
    if not count:
        click.echo("certificates: nothing to change")


def _line(certificate: Certificate) -> str:
    until = f"{certificate.not_after:%Y-%m-%d %H:%M} UTC, {certificate.left.days} days left"
    names = f", for {', '.join(certificate.names)}" if certificate.names else ""
    return f"{certificate.file}: {certificate.subject}, until {until}{names}"


def _document(certificate: Certificate) -> dict[str, object]:
    return {
        "file": str(certificate.file),
        "subject": certificate.subject,
        "names": certificate.names,
        "not_after": certificate.not_after.isoformat().replace("+00:00", "Z"),
        "days_left": certificate.left.days,
    }
