"""The HTTP edge: the rules that a request must meet before a route sees it.

An app installs them itself, so that they hold under any server. `common.http.server` adds what only
a server can do: it limits the time of a request's body, and tells apart header names that CGI's
variables confuse.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from flask import Flask, request
from werkzeug.exceptions import HTTPException

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

Variables = dict[str, Any]

#: Headers with one value. HTTP allows proxies and servers to join repeated headers by commas, so a
#: comma in one of these is a repetition: equal values count as one, different ones are refused.
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

#: Headers with one value that no request must fail for: different values count as none.
OPTIONAL = frozenset({"traceparent"})

#: Variables that CGI spells without `HTTP_`.
_BARE = frozenset({"content-length", "content-type"})

#: The key of an environ under which a request's `Refusal` is passed to its app.
REFUSAL = "http_edge.refusal"

_EXTENSION = "http_edge"


@dataclass(frozen=True, slots=True)
class Refusal:
    """The reason for which a request ends at the edge, and the header that is to blame."""

    status: HTTPStatus
    detail: str
    field: str | None = None


class Refused(HTTPException):
    """A request that the edge refuses."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.code = refusal.status
        self.field = refusal.field


def install(app: Flask, *, admits: Callable[[Mapping[str, Any]], bool] | None = None) -> None:
    """Hold every request to the rules; call it before whatever else checks requests.

    `admits` returns whether a request, by its headers, may be worth its body: without it the app
    answers at once. It is called without an app context, and may raise.
    """
    app.extensions[_EXTENSION] = admits or (lambda _environ: True)
    answer = app.wsgi_app

    def wsgi_app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        _separate(environ)
        return answer(environ, start_response)

    app.wsgi_app = wsgi_app  # type: ignore[method-assign]
    app.before_request(_check)


def admits(app: Flask, environ: Variables) -> bool:
    """Return whether the app needs the body of a request to answer it. Never raises."""
    try:
        return bool(app.extensions[_EXTENSION](environ))
    except Exception:
        # The app meets the same failure when it answers, and reports it.
        return False


def variables(headers: Iterable[tuple[str, str]]) -> Variables:
    """Return the CGI variables of a request's headers, with the `Refusal` of a repeated one.

    A name with an underscore is dropped: its variable would be that of the hyphenated name.
    """
    found: Variables = {}
    for name, value in headers:
        if "_" in name:
            continue
        variable = _variable(name)
        if variable in found:
            # Cookies alone are joined otherwise.
            value = (";" if name == "cookie" else ",").join((found[variable], value))
        found[variable] = value
    return found


def refuse(environ: Variables, status: HTTPStatus, detail: str, field: str | None = None) -> None:
    """Let the app answer a request with a refusal; the first one counts."""
    environ.setdefault(REFUSAL, Refusal(status, detail, field))


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
                    f"The header {name} is given more than once, or has a comma.",
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
