"""What onlookers read besides where the broker is."""

from pydantic import Field, HttpUrl, SecretStr

from eventbus.settings.broker import BrokerSettings


class FlowerSettings(BrokerSettings):
    """What Flower reads."""

    flower_port: int = Field(5555, ge=1, le=65535)
    flower_user: str = "operator"
    flower_password: SecretStr
    #: Required also beside a certificate: the management API takes no other login.
    broker_password: SecretStr
    #: RabbitMQ's management API, for the queues' lengths.
    broker_admin_url: HttpUrl


class ExporterSettings(BrokerSettings):
    """What the exporter reads."""

    exporter_port: int = Field(9808, ge=1, le=65535)
