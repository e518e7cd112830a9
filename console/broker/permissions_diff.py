"""Differences in users and permissions between a broker and a topology."""

import base64
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from common.kombu_topology import EVENTS
from console.broker.state import BrokerState, Object
from console.broker.topology_diff import MISSING, Difference, Request, changes
from eventbus.topology.objects import Topology
from eventbus.topology.users import User

#: RabbitMQ's initial user, whose password is public.
_GUEST = "guest"

_HASHING = "rabbit_password_hashing_sha256"

#: A function that returns a user's password, or None if the password is unknown here.
Passwords = Callable[[str], str | None]


def differences(
    topology: Topology, state: BrokerState, *, deployer: str, passwords: Passwords
) -> Iterator[Difference]:
    """Yield differences of users, permissions and topic permissions, in the order of removal.

    `deployer` is the user that applies the changes, and needs all permissions in the vhost.
    """
    yield from _permission(User(name=deployer, configure=".*", write=".*", read=".*"), state)
    for user in topology.users:
        known = user.name in state.users
        password = passwords(user.name)
        if known or password:
            yield from _user(user, state, password)
            yield from _permission(user, state)
            yield from _topic_permission(user, state)
        else:
            yield Difference(
                kind="user",
                name=user.name,
                problem=MISSING,
                remedy=f"its password must be in SECRETS_DIR, in the file {user.name}.broker",
            )
    yield from _guest(state, deployer)


def _user(user: User, state: BrokerState, password: str | None) -> Iterator[Difference]:
    actual = state.users.get(user.name)
    problems = [] if actual else [MISSING]
    if actual and _tags(actual) != set(user.tags):
        problems.append(f"tags are {sorted(_tags(actual))}, not {sorted(user.tags)}")
    if actual and password and not _is_password(actual, password):
        problems.append("its password differs")
    if problems:
        body = _password(password) if password else _same_password(actual or {})
        yield Difference(
            kind="user",
            name=user.name,
            problem=", ".join(problems),
            request=Request(
                method="PUT", path=("users", user.name), body=body | {"tags": ",".join(user.tags)}
            ),
        )


def _permission(user: User, state: BrokerState) -> Iterator[Difference]:
    wanted = {"configure": user.configure, "write": user.write, "read": user.read}
    actual = state.permissions.get(user.name)
    problem = changes(wanted, actual) if actual else MISSING
    if problem:
        path = ("permissions", state.vhost, user.name)
        request = Request(method="PUT", path=path, body=wanted)
        yield Difference(kind="permission", name=user.name, problem=problem, request=request)


def _topic_permission(user: User, state: BrokerState) -> Iterator[Difference]:
    wanted = {"exchange": EVENTS.name, "write": user.topics, "read": "^$"}
    actual = state.topic_permissions.get((user.name, EVENTS.name))
    problem = changes(wanted, actual) if actual else MISSING
    if problem:
        path = ("topic-permissions", state.vhost, user.name)
        request = Request(method="PUT", path=path, body=wanted)
        yield Difference(kind="topic permission", name=user.name, problem=problem, request=request)


def _guest(state: BrokerState, deployer: str) -> Iterator[Difference]:
    if _GUEST not in state.users:
        return
    can_go = deployer != _GUEST
    yield Difference(
        kind="user",
        name=_GUEST,
        problem="must not exist",
        request=Request(method="DELETE", path=("users", _GUEST)) if can_go else None,
        remedy=None if can_go else "deploy as another administrator, see BROKER_ADMIN_USER",
    )


def _tags(user: Object) -> set[str]:
    # RabbitMQ 3.9 and later return a list, and earlier versions return a string.
    tags = user["tags"]
    return set(tags if isinstance(tags, list) else filter(None, tags.split(",")))


def _is_password(user: Object, password: str) -> bool:
    if user.get("hashing_algorithm") != _HASHING:
        return False
    salt = base64.b64decode(user["password_hash"])[:4]
    return bool(user["password_hash"] == _hash(password, salt))


def _password(password: str) -> dict[str, Any]:
    # The broker receives the hash, so logs and HTTP traces do not contain the password.
    return {"password_hash": _hash(password, os.urandom(4)), "hashing_algorithm": _HASHING}


def _same_password(user: Mapping[str, Any]) -> dict[str, Any]:
    return {name: user[name] for name in ("password_hash", "hashing_algorithm")}


def _hash(password: str, salt: bytes) -> str:
    digest = hashlib.sha256(salt + password.encode()).digest()
    return base64.b64encode(salt + digest).decode()
