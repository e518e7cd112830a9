"""The search form for orders: one field for an id or an address, a status and two times."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from console.errors import ActionError
from console.orders import address
from order_app.domain import Status
from order_app.storage.search import Criteria

#: Maximum number of characters of a field. An address has at most 254.
_LIMIT = 300


@dataclass(frozen=True, kw_only=True)
class Form:
    """The fields as they were entered; an empty field is not a criterion."""

    find: str = ""
    status: str = ""
    since: str = ""
    until: str = ""

    @classmethod
    def of(cls, entered: Mapping[str, str]) -> "Form":
        """Return the form of a request; `id`, in links, is another name of `find`."""
        fields = {name: entered.get(name, "").strip()[:_LIMIT] for name in cls.__dataclass_fields__}
        return cls(**fields | {"find": fields["find"] or entered.get("id", "").strip()[:_LIMIT]})

    @property
    def is_order(self) -> bool:
        """Whether one order is requested, by its id."""
        return bool(self.find) and "@" not in self.find

    @property
    def is_empty(self) -> bool:
        """Whether all orders are requested."""
        return not self.fields

    @property
    def fields(self) -> dict[str, str]:
        """The fields that are not empty."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: value for name, value in values.items() if value}

    def order_id(self) -> UUID:
        """Return the id of the requested order. Raises `ActionError` if it is not an id."""
        try:
            return UUID(self.find)
        except ValueError:
            raise ActionError(
                "An order id has 32 digits from 0 to f, as returned by the API."
                " An email address contains an @."
            ) from None

    def criteria(self) -> Criteria:
        """Return the criteria of a list. Raises `ActionError` naming the invalid field."""
        if self.status and self.status not in frozenset(Status):
            raise ActionError(f"The status is not one of {', '.join(Status)}.")
        return Criteria(
            statuses=(Status(self.status),) if self.status else (),
            email=address.entered(self.find) if self.find else "",
            since=_moment("Placed from", self.since),
            until=_moment("Placed until", self.until),
        )


def _moment(name: str, text: str) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ActionError(f"{name} is not a time such as 2026-11-29T03:00.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
