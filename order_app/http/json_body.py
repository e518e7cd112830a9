"""Strict parsing of JSON bodies: ambiguous and invalid JSON is rejected."""

import json
from functools import lru_cache
from http import HTTPStatus
from typing import Any, NoReturn

from flask import Request
from werkzeug.http import parse_options_header

from order_app.http.problems import Refusal

#: The maximum size of a body in bytes, which is four times the size of a hundred lines with the
#: longest SKUs.
BODY_LIMIT = 64 * 1024


class JsonRequest(Request):
    """A request whose body is one JSON object in UTF-8."""

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:
        """Return the body's object; Flask's options are ignored. Raises `Refusal`."""
        del force, silent, cache
        is_encoded = self.headers.get("Content-Encoding", "identity").lower() != "identity"
        if is_encoded or not _is_json(self.headers.get("Content-Type", "")):
            raise Refusal(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "The body must be application/json in UTF-8, without a content encoding.",
                field="Content-Type",
            )
        return parse(self.get_data())


@lru_cache(maxsize=100)
def _is_json(content_type: str) -> bool:
    mimetype, parameters = parse_options_header(content_type)
    charset = parameters.get("charset", "utf-8").lower()
    return mimetype.lower() == "application/json" and charset in {"utf-8", "utf8"}


def parse(body: bytes) -> dict[str, Any]:
    """Return the object in a JSON text. Raises `Refusal` if the text is not a JSON object."""
    try:
        value = json.loads(
            body.decode(), object_pairs_hook=_object, parse_constant=_refuse_constant
        )
    except RecursionError:
        raise _malformed("it is nested too deeply") from None
    except UnicodeError:
        raise _malformed("it is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise _malformed(f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except ValueError:
        # Python does not parse an integer of thousands of digits.
        raise _malformed("a number has too many digits") from None
    if not isinstance(value, dict):
        raise Refusal(
            HTTPStatus.UNPROCESSABLE_ENTITY, "The body must be a JSON object.", field="body"
        )
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in pairs:
        name.encode()  # a lone surrogate is not text
        if name in fields:
            raise Refusal(
                HTTPStatus.BAD_REQUEST,
                "The body has a duplicate field.",
                field=name[:100],
                message="appears twice in one object",
            )
        fields[name] = value
    return fields


def _refuse_constant(name: str) -> NoReturn:
    raise _malformed(f"{name} is not a JSON number")


def _malformed(reason: str) -> Refusal:
    return Refusal(HTTPStatus.BAD_REQUEST, f"The body is not valid JSON: {reason}.", field="body")
