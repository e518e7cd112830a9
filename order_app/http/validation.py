"""A request's headers and body as checked models, for the route that is asked most.

flask-openapi3 does the same with several times the work: it copies every header, and looks at the
model's schema, at each request.
"""

from collections.abc import Callable
from functools import wraps
from typing import get_type_hints

from flask import Response, request
from pydantic import ValidationError

from order_app.http import problems

_Route = Callable[..., Response]


def validated(route: _Route) -> _Route:
    """Give a route its `header` and `body`, by its annotations; answer 422 if they are wrong."""
    models = get_type_hints(route)
    header, body = models["header"], models["body"]
    names = [field.alias for field in header.model_fields.values()]

    @wraps(route)
    def view() -> Response:
        given = request.headers
        sent = {name: given[name] for name in names if name in given}
        try:
            checked = header.model_validate(sent), body.model_validate(request.get_json())
        except ValidationError as error:
            return problems.invalid(error)
        return route(*checked)

    # As flask-openapi3's own decorator of this kind does: the route is not to be checked before.
    view.__delay_validate_request__ = True  # type: ignore[attr-defined]
    return view
