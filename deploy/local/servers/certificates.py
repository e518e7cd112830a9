"""The certificate authority of a local run, and the certificates of its servers."""

from pathlib import Path

from console.certificates.certificate_authority import Authority
from console.errors import ActionError
from deploy.local.problem import Problem
from deploy.local.state import StateDirectory


def prepare(state: StateDirectory) -> None:
    """Create missing certificates, as `orderctl tls init` does.

    Raises `Problem` if the files cannot be read or written.
    """
    try:
        list(_authority(state).init())
    except ActionError as error:
        raise Problem(str(error)) from None


def ca_file(state: StateDirectory) -> Path:
    """Return the file with the certificate that every client trusts."""
    return _authority(state).certificate_file


def server_file(state: StateDirectory, server: str) -> Path:
    """Return the file with the key and the certificate of a server."""
    return _authority(state).server_file(server)


def _authority(state: StateDirectory) -> Authority:
    return Authority(state.tls)
