"""The environment and the settings of `orderctl` for a broker and databases that match the code."""

import pytest

from console.settings import load_operator
from tests.support.operator_settings import OperatorSettings

Environment = dict[str, str]


@pytest.fixture
def env(applied: Environment, migrated_env: Environment) -> Environment:
    """The environment of `orderctl`."""
    assert applied == migrated_env
    return applied


@pytest.fixture
def settings(env: Environment, monkeypatch: pytest.MonkeyPatch) -> OperatorSettings:
    """The settings of `orderctl`."""
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return load_operator(OperatorSettings)
