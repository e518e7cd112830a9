"""The requests that the API accepts. Unknown fields are rejected, and types are not coerced."""

import re
from functools import cache, lru_cache
from typing import Annotated, Any
from uuid import UUID

from email_validator import EmailNotValidError, ValidatedEmail, validate_email
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_validator,
)

from eventbus.messaging.untrusted import storable
from order_app import domain
from order_app.domain import Status
from order_app.http import cursor
from order_app.use_cases import Placement, Position

#: Maximum length of an email address, RFC 5321.
EMAIL_LIMIT = 254

#: Maximum length of the reason of an operator's cancellation.
REASON_LIMIT = 500

#: A pattern of the local part of most addresses, which is valid and already normalized.
_PLAIN = re.compile(r"[a-z0-9_+-]+(\.[a-z0-9_+-]+)*")

_UUID = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"


def _normalized_email(value: str) -> str:
    local, _, domain = value.rpartition("@")
    # ASCII parts are validated separately. Customers share few domains, so domains are cached.
    if _PLAIN.fullmatch(local) and domain.isascii():
        normalized = f"{local}@{_normalized_domain(domain)}"
    else:
        normalized = _validated(value).normalized
    if len(normalized) > EMAIL_LIMIT:
        raise ValueError(f"must have at most {EMAIL_LIMIT} characters")
    return normalized


@lru_cache(maxsize=10_000)
def _normalized_domain(domain: str) -> str:
    return _validated(f"a@{domain}").domain


def _validated(address: str) -> ValidatedEmail:
    try:
        return validate_email(address, check_deliverability=False, test_environment=True)
    except EmailNotValidError as error:
        raise ValueError(str(error)) from None


def _entered(value: str) -> str:
    if not (text := storable(value.strip())):
        raise ValueError("must not be empty")
    return text


def _digits(value: object) -> object:
    # Query parameters are strings, and pydantic would also accept " 5", "5.0" and "5_0".
    if isinstance(value, str) and not re.fullmatch("[0-9]{1,9}", value):
        raise ValueError("must be a whole number")
    return value


def _hyphenated(value: object) -> object:
    if not isinstance(value, str) or not re.fullmatch(_UUID, value):
        raise ValueError("must be a UUID, such as 0197f0c4-5d6e-7a8b-9c0d-1e2f3a4b5c6d")
    return value


def _position(value: object) -> object:
    return cursor.decode(value) if isinstance(value, str) else value


Email = Annotated[
    str,
    Field(max_length=EMAIL_LIMIT, json_schema_extra={"format": "email"}),
    AfterValidator(_normalized_email),
]
Cursor = Annotated[
    Position,
    BeforeValidator(_position),
    WithJsonSchema({"type": "string", "pattern": cursor.PATTERN}),
]


class Strict(BaseModel):
    """A part of a request body, without unknown fields or type coercion."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Customer(Strict):
    """The customer of an order."""

    email: Email = Field(description="The address that order notifications are sent to.")


class Line(Strict):
    """A line of an order."""

    sku: str = Field(pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    quantity: int = Field(ge=1, le=10_000)
    unit_price: int = Field(ge=0, le=10**12, description="In minor units of the currency.")


class NewOrder(Strict):
    """A request to place an order."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "customer": {"email": "ann@example.com"},
                "currency": "EUR",
                "lines": [{"sku": "TEA-GREEN-100", "quantity": 2, "unit_price": 1250}],
            }
        }
    )

    customer: Customer
    currency: str = Field(pattern="^[A-Z]{3}$", description="ISO 4217.")
    lines: list[Line] = Field(
        min_length=1,
        max_length=100,
        description="Each SKU at most once, with its `quantity`.",
        json_schema_extra={"uniqueItems": True},
    )

    @field_validator("lines")
    @classmethod
    def _each_sku_once(cls, lines: list[Line]) -> list[Line]:
        first: dict[str, int] = {}
        for position, line in enumerate(lines):
            if line.sku in first:
                raise ValueError(f"lines[{position}] has the same SKU as lines[{first[line.sku]}]")
            first[line.sku] = position
        return lines

    def placement(self) -> Placement:
        """Return the request as the service's own type."""
        return Placement(
            customer_email=self.customer.email,
            currency=self.currency,
            lines=tuple(
                domain.Line(sku=line.sku, quantity=line.quantity, unit_price=line.unit_price)
                for line in self.lines
            ),
        )


class OperatorAction(Strict):
    """The operator in whose name an order is changed."""

    operator: Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_entered)] = Field(
        description="The operator's account name, for other operators."
    )


class OperatorShipment(OperatorAction):
    """A request to ship an order as an operator."""


class OperatorCancellation(OperatorAction):
    """A request to cancel an order as an operator."""

    reason: Annotated[
        str, Field(min_length=1, max_length=REASON_LIMIT), AfterValidator(_entered)
    ] = Field(description="The reason, for other operators; the customer does not see it.")


class Parameters(BaseModel):
    """Headers or query parameters: each is optional, but cannot be null."""

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the schema, cached: the framework calls this on each request."""
        return _schema(cls, *args, **kwargs)


@cache
def _schema(model: type[Parameters], *args: Any, **kwargs: Any) -> dict[str, Any]:
    schema = super(Parameters, model).model_json_schema(*args, **kwargs)
    for name, field in schema["properties"].items():
        if "anyOf" in field:
            value, _null = field.pop("anyOf")
            del field["default"]
            schema["properties"][name] = value | field
    return schema


class PlacingHeaders(Parameters):
    """The headers of a request to place an order."""

    idempotency_key: str | None = Field(
        None,
        alias="Idempotency-Key",
        pattern="^[!-+.-~-]{1,255}$",
        description="A repeated request with the same key, under any API key of the client, does "
        "not place a second order: the response contains the first one. Keys are stored for a "
        "month by default. Visible ASCII characters, no spaces and no commas.",
    )


class OrderPath(BaseModel):
    """The path parameters of an order."""

    order_id: Annotated[UUID, BeforeValidator(_hyphenated)]


class OrderQuery(Parameters):
    """The filter and pagination parameters of a list of orders."""

    model_config = ConfigDict(extra="forbid")

    status: Status | None = None
    email: Email | None = Field(None, description="The customer's address.")
    limit: Annotated[int, BeforeValidator(_digits)] = Field(20, ge=1, le=100)
    cursor: Cursor | None = Field(None, description="The `next_cursor` of the previous page.")
