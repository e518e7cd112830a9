"""Generated passwords, stored as scrypt hashes."""

import secrets
from threading import Lock

from werkzeug.security import check_password_hash, generate_password_hash

#: Number of random bytes of a password. Their 144 bits cannot be guessed; people enter the password
#: with a password manager.
_BYTES = 18

#: The parameters of scrypt that OWASP recommends, with which each check takes about 32 MB and a
#: twentieth of a second.
_METHOD = "scrypt:32768:8:1"

#: The hash that is compared for an unknown name, so that both checks take the same time.
_NO_HASH = f"{_METHOD}$none${'0' * 128}"

#: The lock that admits one check at a time. Without it, each thread of the console could use the
#: memory of a check at the same time.
_ONE_AT_A_TIME = Lock()


def generated() -> str:
    """Return a new random password of 24 characters."""
    return secrets.token_urlsafe(_BYTES)


def hashed(password: str) -> str:
    """Return the hash of a password, with its parameters and a new salt."""
    return generate_password_hash(password, _METHOD)


def is_right(password: str, password_hash: str | None) -> bool:
    """Return whether a password has this hash; without a hash, return False after the same time."""
    with _ONE_AT_A_TIME:
        matches = check_password_hash(password_hash or _NO_HASH, password)
    return matches and password_hash is not None
