"""Fixtures for tests of certificates."""

from pathlib import Path

import pytest

from console.certificates.certificate_authority import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A new authority, with certificates of the servers."""
    authority = Authority(tmp_path / "tls")
    list(authority.init())
    return authority
