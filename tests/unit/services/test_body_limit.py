"""The limit of a body is the same in every deployment of the broker and in every service."""

from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from deploy.local import REPOSITORY
from eventbus.errors import InvalidEvent
from eventbus.messaging import untrusted
from eventbus.worker.safe_consumer import SafeConsumer

SETTING = f"max_message_size = {untrusted.BODY_LIMIT}\n"


def test_the_broker_on_kubernetes_has_the_limit_of_the_services() -> None:
    manifest = (REPOSITORY / "deploy/k8s/base/rabbitmq.yaml").read_text()

    assert SETTING in manifest


def test_the_broker_elsewhere_has_the_limit_of_the_services() -> None:
    template = (REPOSITORY / "deploy/local/templates/rabbitmq.conf.j2").read_text()

    assert "max_message_size = {{ body_limit }}\n" in template


def test_a_worker_rejects_only_a_larger_body() -> None:
    # Given a message of the maximal size, which is accepted
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
