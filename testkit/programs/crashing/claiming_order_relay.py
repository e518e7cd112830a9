"""The order relay, killed after the claim of a batch, before it is published."""

from typing import Any

from eventbus.messaging.publisher import ConfirmingPublisher
from testkit.programs.crashing import die


def _die_instead(*_: Any, **__: Any) -> None:
    die()


ConfirmingPublisher.send = _die_instead  # type: ignore[assignment, method-assign]

from order_app.relay import app  # noqa: E402, F401
