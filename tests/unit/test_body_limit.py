"""The largest body: one number, for the broker of every deployment and for every service."""

from common import safe_consumer, untrusted
from deploy.local import REPOSITORY

SETTING = f"max_message_size = {untrusted.BODY_LIMIT}\n"


def test_broker_on_kubernetes_accepts_what_a_service_accepts() -> None:
    manifest = (REPOSITORY / "deploy/k8s/base/rabbitmq.yaml").read_text()

    assert SETTING in manifest


def test_broker_elsewhere_is_told_the_same_number() -> None:
    template = (REPOSITORY / "deploy/local/templates/rabbitmq.conf.j2").read_text()

    assert "max_message_size = {{ body_limit }}\n" in template


def test_worker_accepts_bodies_of_the_same_size() -> None:
    assert safe_consumer.BODY_LIMIT == untrusted.BODY_LIMIT
