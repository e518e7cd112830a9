"""The API's error responses: RFC 9457 problem documents."""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from flask import Flask, Response
from flask_openapi3.types import ResponseDict
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import HTTPException

from common.http.edge import Refused
from eventbus.database import outages
from eventbus.errors import ExpectedError
from order_app.use_cases import UnknownOrder

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

#: Seconds after which a client may retry a request that failed in a database outage.
RETRY_AFTER = 2

#: The maximum number of errors in a response, and the maximum length of a field name, which limit
#: the cost of invalid requests.
_ERRORS_LIMIT = 20
_NAME_LIMIT = 100

#: Replacements for messages of pydantic that contain class names, or are unclear.
_MESSAGES = {
    "model_type": "Input should be an object",
    "extra_forbidden": "is not recognized",
}


class FieldError(BaseModel):
    """An error in a field, parameter or header."""

    field: str
    message: str


class Problem(BaseModel):
    """A problem document, RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldError] = []


class Refusal(ExpectedError):
    """The request is invalid, or not possible in the current state."""

    def __init__(
        self, status: HTTPStatus, detail: str, *, field: str | None = None, message: str = ""
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.errors = [FieldError(field=field, message=message or detail)] if field else []


def problem(
    status: HTTPStatus,
    detail: str,
    *,
    errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return a response with a problem document."""
    document = Problem(
        type="about:blank",
        title=status.phrase,
        status=status,
        detail=detail,
        errors=list(errors),
    )
    return Response(
        document.model_dump_json(), status, headers=dict(headers or {}), content_type=MEDIA_TYPE
    )


def responses(successes: ResponseDict, *problem_statuses: HTTPStatus) -> ResponseDict:
    """Return the responses of a route for the OpenAPI document."""
    schema = {"$ref": "#/components/schemas/Problem"}
    problems: ResponseDict = {
        status: {"description": status.phrase, "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in problem_statuses
    }
    return successes | problems


def invalid(error: ValidationError) -> Response:
    """Return 422 with the invalid fields, up to a limit."""
    errors = error.errors(include_input=False, include_url=False, include_context=False)
    return problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "The request is not valid.",
        errors=[
            FieldError(
                field=_field(e["loc"]),
                message=_MESSAGES.get(e["type"], e["msg"].removeprefix("Value error, ")),
            )
            for e in errors[:_ERRORS_LIMIT]
        ],
    )


def install(app: Flask) -> None:
    """Return a problem document for every error of the app, without internals."""
    app.register_error_handler(Refusal, _refused)
    app.register_error_handler(UnknownOrder, _unknown_order)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _failed)


def _refused(error: Refusal) -> Response:
    return problem(error.status, str(error), errors=error.errors)


def _unknown_order(error: UnknownOrder) -> Response:
    return problem(HTTPStatus.NOT_FOUND, str(error))


def _http_error(error: HTTPException) -> Response:
    status = HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR)
    headers = {name: value for name, value in error.get_headers() if name != "Content-Type"}
    detail, errors = status.description or status.phrase, []
    if status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        errors = [FieldError(field="body", message="is too large")]
    if isinstance(error, Refused):
        detail = error.description or detail
        errors = [FieldError(field=error.field, message=detail)] if error.field else []
    return problem(status, detail, errors=errors, headers=headers)


def _failed(error: Exception) -> Response:
    outage = outages.reason(error)
    if outage is None and not outages.contention(error):
        return _bug(error)
    # The log line omits the error's own text, which may contain a customer's data.
    reason = outage or "the statement waited too long for other transactions"
    log.warning("request failed in a database outage", extra={"reason": reason})
    return problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "The service is temporarily unavailable; try again soon.",
        headers={"Retry-After": str(RETRY_AFTER)},
    )


def _bug(error: Exception) -> Response:
    log.error("request failed", exc_info=error)
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "The request failed; it can be retried.")


def _field(location: tuple[int | str, ...]) -> str:
    """Return a field's path in the request, such as `lines[0].sku`."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return path.removeprefix(".")[:_NAME_LIMIT] or "body"
