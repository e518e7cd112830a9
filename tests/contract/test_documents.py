"""The documents that are generated from the contracts are current, valid and correct."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from common.events import EVENTS
from common.kombu_topology import SERVICES
from console.actions import contracts
from contracts.asyncapi import asyncapi
from contracts.documents import REPOSITORY, documents, stale
from contracts.samples import newest_samples
from eventbus.events import codec
from eventbus.messaging.event_message import task_headers
from tests.contract.regenerate import GOLDEN
from tests.contract.samples import SAMPLES, newest

ASYNCAPI = REPOSITORY / "contracts/asyncapi.json"
PARSER = REPOSITORY / ".venv/asyncapi/node_modules"

needs_the_parser = pytest.mark.skipif(
    not PARSER.is_dir(), reason="the AsyncAPI parser is not installed: it needs npm"
)


def read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def problems(document: dict[str, Any]) -> list[str]:
    """Return the errors that the official parser finds in a document."""
    done = subprocess.run(
        ["node", REPOSITORY / "contracts/validation/validate.js"],
        input=json.dumps(document),
        env=os.environ | {"NODE_PATH": str(PARSER)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert not done.stderr
    assert done.returncode == bool(done.stdout)
    return done.stdout.splitlines()


# --- Current ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", documents())
def test_committed_documents_match_the_code(name: str) -> None:
    committed = (REPOSITORY / name).read_text(encoding="utf-8")

    assert committed == documents()[name], "run: make docs"


def test_a_removed_event_type_has_no_schema() -> None:
    assert stale() == [], "run: make docs"


def test_no_contract_has_a_breaking_change_since_the_last_release() -> None:
    changes = contracts.check(REPOSITORY / "contracts/released")

    assert [str(change) for change in changes if change.breaking] == []


def test_the_example_of_a_type_is_its_newest_sample() -> None:
    for event_type in EVENTS:
        assert newest_samples()[event_type] == read(GOLDEN / f"{newest(event_type)}.json")


# --- Valid --------------------------------------------------------------------------------------


@needs_the_parser
def test_the_official_parser_accepts_the_asyncapi_document() -> None:
    assert problems(read(ASYNCAPI)) == []


@needs_the_parser
@pytest.mark.parametrize(
    ("path", "broken", "error"),
    [
        (("operations", "order.send.order.created", "action"), "say", '"send", "receive"'),
        (
            ("operations", "order.send.order.created", "bindings", "amqp", "deliveryMode"),
            3,
            "deliveryMode",
        ),
        (
            ("channels", "order.created", "messages", "order.created", "$ref"),
            "#/components/messages/order.lost",
            "does not exist",
        ),
    ],
)
def test_the_official_parser_rejects_a_wrong_value(
    path: tuple[str, ...], broken: object, error: str
) -> None:
    # Given the document with one wrong value
    document = read(ASYNCAPI)
    place: Any = document
    for step in path[:-1]:
        place = place[step]
    assert path[-1] in place
    place[path[-1]] = broken

    # Then the parser reports it
    assert any(error in problem for problem in problems(document))


# --- Correct ------------------------------------------------------------------------------------


def in_asyncapi(schema: dict[str, Any]) -> jsonschema_rs.Draft7Validator:
    components = {"components": read(ASYNCAPI)["components"]}
    return jsonschema_rs.Draft7Validator(schema | components, validate_formats=True)


@pytest.mark.parametrize("name", SAMPLES)
def test_golden_events_are_valid_by_the_schemas(name: str) -> None:
    # Given an envelope and the schemas
    envelope = read(GOLDEN / f"{name}.json")
    schemas = REPOSITORY / "contracts/schemas"

    # Then both parts are valid
    for schema, instance in (
        ("envelope", envelope),
        (envelope["type"], envelope["data"]),
    ):
        validator = jsonschema_rs.Draft202012Validator(
            read(schemas / f"{schema}.json"), validate_formats=True
        )
        validator.validate(instance)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_message_matches_the_asyncapi_document(name: str) -> None:
    # Given a message and its description
    event = SAMPLES[name]
    message = read(ASYNCAPI)["components"]["messages"][event.type]
    body = json.loads(codec.wrap(codec.encode(event)))
    headers = task_headers(str(event.id), event.type, event.traceparent)

    # Then the message and the examples are valid
    in_asyncapi(message["payload"]).validate(body)
    in_asyncapi(message["headers"]).validate(headers)
    for example in message["examples"]:
        in_asyncapi(message["payload"]).validate(example["payload"])
    # And each header is described
    described = read(ASYNCAPI)["components"]["schemas"]["CeleryHeaders"]["properties"]
    assert headers.keys() <= described.keys()


@pytest.mark.parametrize(
    ("step", "wrong"),
    [("type", "order.lost"), ("dataschema", "urn:lost"), ("data", {}), ("sequence", 0)],
)
def test_the_asyncapi_document_rejects_a_wrong_envelope(step: str, wrong: object) -> None:
    # Given a message whose envelope has one wrong value
    envelope = read(GOLDEN / "order.created.v1.json") | {step: wrong}
    message = read(ASYNCAPI)["components"]["messages"]["order.created"]
    body = [[], {"event": envelope}, {}]

    # Then it is not valid
    assert not in_asyncapi(message["payload"]).is_valid(body)


def test_each_published_and_consumed_type_has_an_operation() -> None:
    # When the document is generated
    operations = asyncapi(newest_samples())["operations"].values()

    # Then its operations are those of the services
    written = {
        (it["tags"][0]["name"], it["action"], it["channel"]["$ref"].rpartition("/")[2])
        for it in operations
    }
    assert written == {
        (service.name, action, event_type)
        for service in SERVICES
        for action, types in (
            ("send", service.published_types),
            ("receive", service.consumed_types),
        )
        for event_type in types
    }
