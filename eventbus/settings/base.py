"""Settings: parsed once from the environment, validated at start, the only reader of it.

A secret `NAME` may come from a file instead, named by `NAME_FILE`, so that it appears
neither in a process list nor in a supervisor's configuration.
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
        reason = error.strerror or "it holds no certificate"
        raise ValueError(f"{path}: {reason}") from None
    return path


#: A file with the certificate of the authority that the server's own is signed by.
CaFile = Annotated[Path, AfterValidator(_certificates)]


class SettingsError(SystemExit):
    """A setting is missing or wrong; ends the process with a line for each and no trace."""


class _SecretFiles(PydanticBaseSettingsSource):
    """Reads the setting `NAME` from the file that the variable `NAME_FILE` names."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the file's text without its last newline, or None when no file is named."""
        del field  # only its name matters here
        path = os.environ.get(f"{field_name.upper()}_FILE")
        value = Path(path).read_text().rstrip("\n") if path else None
        return value, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return every setting that a file provides."""
        values = {
            name: self.get_field_value(field, name)[0]
            for name, field in self.settings_cls.model_fields.items()
        }
        return {name: value for name, value in values.items() if value is not None}


class Settings(BaseSettings):
    """What every process reads."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    release: str = Field("dev", description="Names the running code in parked messages and logs.")
    #: Where spans go (OTLP over HTTP, without `/v1/traces`); without it none are recorded.
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
        """Prefer arguments (tests), then the environment, then secret files, then a dotenv file."""
        del file_secret_settings  # one directory for all secrets; here each has its own file
        return (
            init_settings,
            env_settings,
            _SecretFiles(settings_cls),
            dotenv_settings,
        )


def load(settings: type[S], **overrides: Any) -> S:
    """Return the validated settings of a process.

    Raises `SettingsError`, which ends the process, naming every variable that is wrong.
    """
    try:
        return settings(**overrides)
    except ValidationError as error:
        raise SettingsError("\n".join(_lines(error))) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"a secret's file cannot be read: {error}") from None


def _lines(error: ValidationError) -> list[str]:
    # Never the value itself: it may be a secret.
    return [
        f"setting {str(problem['loc'][0]).upper()}: {problem['msg']}"
        for problem in error.errors(include_input=False, include_url=False)
    ]
