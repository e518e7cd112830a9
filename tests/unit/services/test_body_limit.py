"""The largest body: one number, for the broker of every deployment and for every service."""

from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from deploy.local import REPOSITORY
from eventbus.errors import InvalidEvent
from eventbus.messaging import untrusted
from eventbus.worker import safe_consumer
from eventbus.worker.safe_consumer import SafeConsumer

SETTING = f"max_message_size = {untrusted.BODY_LIMIT}\n"


def test_broker_on_kubernetes_accepts_what_a_service_accepts() -> None:
    manifest = (REPOSITORY / "deploy/k8s/base/rabbitmq.yaml").read_text()

    assert SETTING in manifest


def test_broker_elsewhere_is_told_the_same_number() -> None:
    template = (REPOSITORY / "deploy/local/templates/rabbitmq.conf.j2").read_text()

    assert "max_message_size = {{ body_limit }}\n" in template


def test_worker_accepts_bodies_of_the_same_size() -> None:
    assert safe_consumer.BODY_LIMIT == untrusted.BODY_LIMIT


def test_worker_refuses_a_body_beyond_that_size() -> None:
    # Given a broker whose limit is another one
    worker: Any = SimpleNamespace(app=SimpleNamespace(tasks={"order.created"}))
    message: Any = SimpleNamespace(
        errors=[],
        headers={"task": "order.created", "id": str(uuid4()), "retries": 0},
        content_type="application/json",
        content_encoding="utf-8",
        body=b" " * untrusted.BODY_LIMIT,
    )
    SafeConsumer.check(worker, message)

    # When the body has one byte more
    message.body += b" "

    # Then the worker rejects it
    with pytest.raises(InvalidEvent, match="body has 262145 bytes"):
        SafeConsumer.check(worker, message)
