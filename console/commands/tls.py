"""`orderctl tls`: the private certificate authority and its certificates."""

import json
from collections.abc import Iterable

import click

from common.kombu_topology import topology
from console.certificates.certificate_authority import Authority
from console.certificates.certificate_file import Certificate
from console.commands.execution.effect import shows, writes
from console.commands.execution.json_document import documented, report
from console.settings import TlsSettings, load_operator


@click.group()
def tls() -> None:
    """Create, renew and show the certificates of RabbitMQ, PostgreSQL and their clients."""


@tls.command(epilog="Example: orderctl tls init")
@writes
@documented("created")
@click.option(
    "--clients", is_flag=True, help="Also create a client certificate for each broker user."
)
def init(*, clients: bool) -> None:
    """Create the certificate authority (CA) and the servers' certificates, if TLS_DIR lacks them.

    A certificate that expires within 30 days, whose names differ from TLS_NAMES, or that another
    CA has issued, is renewed. Running the command again changes nothing.
    """
    users = [user.name for user in topology().users] if clients else []
    _print(_authority().init(users))


@tls.command(epilog="Example: orderctl tls renew")
@writes
@documented("created")
def renew() -> None:
    """Replace the servers' and clients' keys and certificates, but not those of the CA.

    RabbitMQ and clients present the new certificate at their next connection, PostgreSQL after its
    next reload.
    """
    _print(_authority().renew())


@tls.command(epilog="Example: orderctl tls show --json")
@shows
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def show(*, as_json: bool) -> None:
    """Show each certificate and its remaining validity."""
    certificates = _authority().show()
    if as_json:
        click.echo(json.dumps([_document(certificate) for certificate in certificates], indent=2))
        return
    for certificate in certificates:
        click.echo(_line(certificate))


def _authority() -> Authority:
    settings = load_operator(TlsSettings)
    return Authority(settings.tls_dir, settings.tls_names)


def _print(created: Iterable[Certificate]) -> None:
    documents = list[dict[str, object]]()
    report(created=documents)
    for certificate in created:
        click.echo(f"created {_line(certificate)}")
        documents.append(_document(certificate))
    if not documents:
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
