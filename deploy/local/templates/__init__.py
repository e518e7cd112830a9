"""The files that a local run writes, as Jinja templates."""

import shlex
from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(template: str, **values: object) -> str:
    """Return a filled-in template. Raises `jinja2.UndefinedError` for a missing value."""
    environment = Environment(
        loader=PackageLoader("deploy.local"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701, no template is HTML
    )
    environment.filters |= {"command_line": _command_line, "literal": _literal}
    return environment.get_template(template).render(values)


def _command_line(arguments: Sequence[str]) -> str:
    return _literal(shlex.join(arguments))


def _literal(value: object) -> str:
    # Supervisor expands a percent sign.
    return str(value).replace("%", "%%")
