"""Settings: parsed once from the environment and validated at start.

No other code reads the environment. The value of a secret `NAME` can also come from a file whose
path is in `NAME_FILE`. The secret then appears neither in a process list nor in a supervisor's
configuration.
"""

import os
import ssl
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    Field,
    HttpUrl,
    ValidationError,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

S = TypeVar("S", bound=BaseSettings)


def _certificates(path: Path) -> Path:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except OSError as error:
        reason = error.strerror or "it contains no certificate"
        raise ValueError(f"{path}: {reason}") from None
    return path


#: The path of a file with the certificate of the CA that issues the server's certificate.
CaFile = Annotated[Path, AfterValidator(_certificates)]


class SettingsError(SystemExit):
    """Missing or invalid settings: the process exits with a line for each, without a traceback."""


def secret_in(path: Path, name: str) -> str:
    """Return the secret that the file of the setting `name` contains, without its line's end.

    Raises `SettingsError` unless the file contains one line of text, which is not shown.
    """
    try:
        secret = path.read_text().rstrip("\r\n")
        reason = "" if secret and secret.isprintable() else "it does not contain one line of text"
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
    if reason:
        raise SettingsError(f"setting {name.upper()}_FILE: {path}: {reason}")
    return secret


class _SecretFiles(PydanticBaseSettingsSource):
    """The source that reads a setting `NAME` from the file that the variable `NAME_FILE` names."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the secret in the file, or None if no file is named."""
        del field  # only its name is needed
        path = os.environ.get(f"{field_name.upper()}_FILE")
        value = secret_in(Path(path), field_name) if path else None
        return value, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return the settings that come from files."""
        values = {
            name: self.get_field_value(field, name)[0]
            for name, field in self.settings_cls.model_fields.items()
        }
        return {name: value for name, value in values.items() if value is not None}


class Settings(BaseSettings):
    """The settings of every process."""

    # An empty variable counts as unset: an empty path would be the current directory, and libpq
    # replaces an empty database or user by its own default.
    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    release: str = Field(
        "dev", description="The name of the running code in parked messages and logs."
    )
    #: The destination of spans (OTLP/HTTP, without `/v1/traces`). If it is unset, spans are not
    #: recorded.
    otlp_endpoint: HttpUrl | None = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources by precedence: arguments (tests), environment, secret files, .env."""
        del file_secret_settings  # one directory for all secrets; here each has its own file
        return (
            init_settings,
            env_settings,
            _SecretFiles(settings_cls),
            dotenv_settings,
        )


def load(settings: type[S], **overrides: Any) -> S:
    """Return the validated settings of a process.

    Raises `SettingsError`, which terminates the process and names every invalid variable.
    """
    try:
        return settings(**overrides)
    except ValidationError as error:
        raise SettingsError("\n".join(_lines(error))) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"a settings file cannot be read: {error}") from None


def _lines(error: ValidationError) -> list[str]:
    # The message does not contain the value, which may be a secret.
    return [
        f"setting {str(problem['loc'][0]).upper()}: {problem['msg']}"
        for problem in error.errors(include_input=False, include_url=False)
    ]
