"""Settings of Flower and the exporter."""

from pydantic import Field, HttpUrl, SecretStr

from eventbus.settings.broker import BrokerSettings


class FlowerSettings(BrokerSettings):
    """The settings of Flower."""

    flower_port: int = Field(5555, ge=1, le=65535)
    flower_user: str = "operator"
    flower_password: SecretStr
    #: The password is required even with a certificate, because the management API accepts no other
    #: login.
    broker_password: SecretStr
    #: The address of RabbitMQ's management API, from which Flower reads queue lengths.
    broker_admin_url: HttpUrl


class ExporterSettings(BrokerSettings):
    """The settings of the exporter."""

    exporter_port: int = Field(9808, ge=1, le=65535)
