"""The HTTP edge: rules that apply to a request before routing.

An app installs the rules itself, so they apply under any server. `common.http.server` adds the
rules that only a server can apply: it limits the time for the arrival of a body, and distinguishes
header names that have the same CGI variable.
"""

import io
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Never

from flask import Flask, request
from werkzeug.exceptions import HTTPException

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

log = logging.getLogger(__name__)

Variables = dict[str, Any]

#: Headers that must have a single value. HTTP allows proxies and servers to join repeated headers
#: with commas, so a comma in such a header counts as a repetition. Equal values count as one value,
#: and different values are refused.
SINGLE = frozenset(
    {
        "authorization",
        "content-encoding",
        "content-length",
        "content-type",
        "host",
        "idempotency-key",
    }
)

#: Headers that must have a single value, but must not make a request fail. Different values count
#: as no value.
OPTIONAL = frozenset({"traceparent"})

#: Headers whose CGI variables do not start with `HTTP_`.
_BARE = frozenset({"content-length", "content-type"})

#: Seconds after which a client may repeat a request that was admitted after its body was skipped.
_RETRY_AFTER = 1

#: The key in the environ under which a request's `Refusal` is passed to the app.
REFUSAL = "http_edge.refusal"

_EXTENSION = "http_edge"


@dataclass(frozen=True, slots=True)
class Refusal:
    """The reason why a request is refused at the edge, and the header that caused it."""

    status: HTTPStatus
    detail: str
    field: str | None = None
    #: Seconds after which the client may repeat the request, if a repetition may succeed.
    retry_after: int | None = None


class Refused(HTTPException):
    """A request is refused at the edge."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.code = refusal.status
        self.field = refusal.field
        self._retry_after = refusal.retry_after

    def get_headers(self, *arguments: Any, **options: Any) -> list[tuple[str, str]]:
        """Return the headers of the response, with `Retry-After` if the refusal has one."""
        headers = super().get_headers(*arguments, **options)
        if self._retry_after is not None:
            headers.append(("Retry-After", str(self._retry_after)))
        return headers


class _SkippedBody(io.RawIOBase):
    """A body that was not received, which must not be treated as an empty body."""

    def __init__(self, environ: Variables, reason: str) -> None:
        self._environ = environ
        self._reason = reason

    def readable(self) -> bool:
        return True

    def readinto(self, _buffer: Any) -> Never:
        """Refuse the request: it was not admitted when it arrived, but would be admitted now."""
        refuse(
            self._environ,
            HTTPStatus.SERVICE_UNAVAILABLE,
            f"The body was not read, because {self._reason}; send the request again.",
            retry_after=_RETRY_AFTER,
        )
        raise Refused(self._environ[REFUSAL])


def install(app: Flask, *, admits: Callable[[Mapping[str, Any]], bool] | None = None) -> None:
    """Apply the rules to every request. Must be called before all other checks of requests.

    `admits` returns whether the body of a request with these headers may be needed. If it returns
    False or raises an exception, the app responds without the body; reading the body then raises
    `Refused` with 503. The function is called without an app context, and must not wait for long,
    because the request does not count as being in progress before the function returns.
    """
    app.extensions[_EXTENSION] = admits or (lambda _environ: True)
    inner = app.wsgi_app

    def wsgi_app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        _separate(environ)
        return inner(environ, start_response)

    app.wsgi_app = wsgi_app  # type: ignore[method-assign]
    app.before_request(_check)


def admits(app: Flask, environ: Variables) -> bool:
    """Return whether the app needs the body of a request to respond to it; never raise.

    If it does not, `wsgi.input` refuses the request when the app reads the body.
    """
    try:
        if app.extensions[_EXTENSION](environ):
            return True
        reason = "the request was not authorized when it arrived"
    except Exception as error:
        # The app checks the request again, and reports an error that persists.
        log.warning("body skipped", extra={"exception": type(error).__name__})
        reason = "its authorization could not be checked"
    environ["wsgi.input"] = _SkippedBody(environ, reason)
    return False


def variables(headers: Iterable[tuple[str, str]]) -> Variables:
    """Return the CGI variables of a request's headers, with repeated headers joined.

    A name with an underscore is dropped, because the hyphenated name has the same variable.
    """
    environ: Variables = {}
    for name, value in headers:
        if "_" in name:
            continue
        variable = _variable(name)
        if variable in environ:
            # Repeated cookies are joined with semicolons, and all other headers with commas.
            value = (";" if name == "cookie" else ",").join((environ[variable], value))
        environ[variable] = value
    return environ


def refuse(
    environ: Variables,
    status: HTTPStatus,
    detail: str,
    field: str | None = None,
    *,
    retry_after: int | None = None,
) -> None:
    """Make the app respond to the request with a refusal; the first refusal applies."""
    environ.setdefault(REFUSAL, Refusal(status, detail, field, retry_after))


def _separate(environ: Variables) -> None:
    for variable, name in _SINGLE_VARIABLES:
        if "," in environ.get(variable, ""):
            values = {part.strip() for part in environ[variable].split(",")}
            if len(values) == 1:
                environ[variable] = values.pop()
            elif name in OPTIONAL:
                del environ[variable]
            else:
                refuse(
                    environ,
                    HTTPStatus.BAD_REQUEST,
                    f"The header {name} is repeated or contains a comma.",
                    name,
                )


def _check() -> None:
    if refusal := request.environ.get(REFUSAL):
        raise Refused(refusal)


@lru_cache(maxsize=1_000)
def _variable(name: str) -> str:
    variable = name.upper().replace("-", "_")
    return variable if name in _BARE else f"HTTP_{variable}"


_SINGLE_VARIABLES = tuple((_variable(name), name.title()) for name in SINGLE) + tuple(
    (_variable(name), name) for name in OPTIONAL
)
