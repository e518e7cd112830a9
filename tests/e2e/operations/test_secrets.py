"""Secrets appear in no log, process list, response or message."""

from collections.abc import Iterator
from pathlib import Path

import httpx
from kombu.message import Message

from order_app.storage.api_keys import Scope
from testkit.eventually import eventually
from testkit.processes.stack import Stack

#: The password of a misconfigured process. It is also a secret, perhaps of another system.
WRONG_PASSWORD = "wrong-7d1f0c5e9b3a4286"


def test_no_secret_leaves_its_file(stack: Stack, tmp_path: Path) -> None:
    # Given a running system whose inventory fails as the customer's address specifies, and whose
    # programs have their own command lines
    (tmp_path / "attempts").mkdir()
    stack.forks = False
    stack.extra["ATTEMPTS"] = str(tmp_path / "attempts")
    stack.stock(TEA=100)
    stack.start("inventory-worker", module="testkit.programs.failing.inventory_worker")
    others = ("api", "order-worker", "order-relay", "inventory-relay", "notification-worker")
    stack.start(*others, "notification-mailer", "beat")
    reader = stack.make_key(Scope.READ)
    secrets = {
        path.name: path.read_text().strip() for path in stack.servers.secrets_dir.iterdir()
    } | {"api key": stack.api_key, "reader's key": reader, "wrong password": WRONG_PASSWORD}
    secrets |= {f"secret of the {n}": secrets[n].rpartition("_")[2] for n in ("api key",)}
    assert all(len(secret) > 15 for secret in secrets.values()), "some secret is empty"

    # When orders succeed and fail, and requests are rejected
    good = stack.place(("TEA", 1))
    for name in ("bug", "permanent", "always"):
        stack.place(("TEA", 1), email=f"{name}@example.com")
    assert stack.decided(good) == ("CONFIRMED", None)
    responses = [*_rejected(stack, good, reader)]

    def parked() -> list[Message]:
        messages = stack.vhost.messages("inventory.dlq")
        assert len(messages) == 3
        return messages

    messages = eventually(parked)

    # And processes are started with wrong passwords and settings
    responses += _start_misconfigured(stack)
    assert {response.status_code for response in responses} == {400, 401, 403, 404, 422, 500, 503}

    # Then no secret is in any of these places
    places = {
        **_logs(stack),
        **_command_lines(stack),
        **{f"response {r.status_code} {r.request.url}": f"{r.headers}{r.text}" for r in responses},
        **{f"message {n}": _text(message) for n, message in enumerate(messages)},
        "outbox": "\n".join(stack.execute("order", "SELECT event FROM outbox")),
    }
    for place, text in places.items():
        for name, secret in secrets.items():
            assert secret not in text, f"{name} is in {place}"


def _rejected(stack: Stack, order_id: str, reader: str) -> Iterator[httpx.Response]:
    with stack.client as client:
        yield client.post("/orders", content=b"{", headers={"Content-Type": "application/json"})
        yield client.post("/orders", json={"customer": stack.api_key})
        yield client.get("/orders/01a203e2-f309-7509-a3d7-8edb83dd749c")
        yield client.get("/orders", headers={"Authorization": f"Bearer {stack.api_key}0"})
        yield client.get("/orders", headers={"Authorization": f"Basic {stack.api_key}"})
        bearer = {"Authorization": f"Bearer {reader}"}
        yield client.post(f"/orders/{order_id}/cancel", headers=bearer)
        # A missing table is a bug of the API.
        stack.execute("order", "ALTER TABLE order_lines RENAME TO order_lines_")
        yield client.get(f"/orders/{order_id}")
        stack.execute("order", "ALTER TABLE order_lines_ RENAME TO order_lines")


def _start_misconfigured(stack: Stack) -> list[httpx.Response]:
    for name in ("api", "notification-mailer", "inventory-relay", "beat"):
        stack.kill(name)
    stack.extra |= {"DATABASE_PASSWORD": WRONG_PASSWORD, "BROKER_PASSWORD": WRONG_PASSWORD}
    for name in ("api", "notification-mailer", "beat"):
        stack.launch(name)
    stack.extra |= {"BROKER_PORT": WRONG_PASSWORD, "RETRY_TIERS": WRONG_PASSWORD}
    stack.launch("inventory-relay")

    def unavailable() -> list[httpx.Response]:
        try:
            with stack.client as client:
                responses = [client.get(path) for path in ("/orders", "/readyz")]
        except httpx.TransportError as error:
            raise AssertionError from error
        assert [response.status_code for response in responses] == [503, 503]
        return responses

    server_log = stack.servers.secrets_dir.parent / "logs" / "postgres.log"

    def logged() -> None:
        assert "the database cannot be reached" in stack.log("api")
        # The reason is in the server's log only: the API logs an outage
        assert "password authentication failed" in server_log.read_text(errors="replace")
        assert "setting BROKER_PORT" in stack.log("inventory-relay")
        for name in ("notification-mailer", "beat"):
            assert "Cannot connect" in stack.log(name) or "ACCESS_REFUSED" in stack.log(name)

    responses = eventually(unavailable)
    eventually(logged)
    return responses


def _logs(stack: Stack) -> dict[str, str]:
    servers = stack.servers.secrets_dir.parent / "logs"
    files = [*stack.directory.glob("*.log"), *servers.glob("*.log")]
    assert {"rabbitmq.log", "postgres.log", "api.log", "beat.log"} <= {f.name for f in files}
    return {f"log {file}": file.read_text(errors="replace") for file in files}


def _command_lines(stack: Stack) -> dict[str, str]:
    lines = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines[f"command line {path}"] = path.read_text(errors="replace").replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError):
            continue
    api = f"127.0.0.1:{stack.ports.api_port}"
    for process in ("rabbitmq", "postgres", api, "inventory@inventory"):
        assert any(process in line for line in lines.values()), process
    return lines


def _text(message: Message) -> str:
    return f"{message.body!r} {message.headers} {message.properties}"
