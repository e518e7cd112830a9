"""Settings for a process that publishes an outbox."""

from pydantic import Field, ValidationInfo, field_validator

from eventbus.settings.service import ServiceSettings

#: Number of slots of an outbox. The hash of an event's subject determines its slot. The number of
#: relays that share an outbox cannot exceed the number of slots; 64 relays can publish more than
#: one PostgreSQL primary can write. The index of unsent events contains the slot, so a change
#: requires a migration.
SLOTS = 64


class OutboxSettings(ServiceSettings):
    """The settings of a relay: the part of the outbox that it publishes."""

    #: Number of relays that share the outbox. The default is one relay for the whole outbox, which
    #: costs least as long as one processor is sufficient.
    relay_parts: int = Field(1, ge=1, le=SLOTS)
    #: The number of this relay, from 0.
    relay_part: int = Field(0, ge=0, lt=SLOTS, validate_default=True)

    @field_validator("relay_part")
    @classmethod
    def _is_one_of_them(cls, part: int, info: ValidationInfo) -> int:
        # If RELAY_PARTS is invalid, it is absent from the data and has its own error.
        parts = info.data.get("relay_parts", SLOTS)
        if part >= parts:
            raise ValueError(f"must be less than RELAY_PARTS={parts}")
        return part
