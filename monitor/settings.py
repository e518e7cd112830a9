"""Settings of Flower and the exporter."""

from pydantic import Field, HttpUrl, SecretStr

from eventbus.settings.broker import BrokerSettings


class FlowerSettings(BrokerSettings):
    """The settings of Flower."""

    flower_port: int = Field(5555, ge=1, le=65535)
    flower_user: str = "operator"
    flower_password: SecretStr
    #: Required even with a certificate: the management API accepts no other login.
    broker_password: SecretStr
    #: RabbitMQ's management API, for queue lengths.
    broker_admin_url: HttpUrl


class ExporterSettings(BrokerSettings):
    """The settings of the exporter."""

    exporter_port: int = Field(9808, ge=1, le=65535)
