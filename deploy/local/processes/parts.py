"""The programs of a local run in which relays and workers have parts."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from common.queue_parts import Parts, Relays
from deploy.local.problem import Problem
from deploy.local.processes.programs import PROGRAMS, Program
from deploy.local.state import StateDirectory

#: The distance of the first additional program's metrics port from the API's: beyond those that
#: have a variable.
_FIRST_PORT = 100


class Division(BaseSettings):
    """The numbers of workers and relays that share the work of a service."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    #: Parts of queues, such as `inventory=4`: one worker each.
    parts: Parts = Field("", validate_default=True)
    #: Relays of outboxes, such as `order=2`.
    relays: Relays = Field("", validate_default=True)

    def text(self) -> str:
        """Return the parts of queues as the value of `PARTS`."""
        return ",".join(f"{name}={number}" for name, number in self.parts.items())


def configured_division(env_file: Path) -> Division:
    """Return the division from the environment, else from this file.

    Raises `Problem` naming the first invalid variable.
    """
    try:
        return Division(_env_file=env_file)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        reason = first["msg"].removeprefix("Value error, ")
        raise Problem(
            f"{str(first['loc'][0]).upper()}: {reason}; see {env_file.name} and the environment"
        ) from None


def stored_division(state: StateDirectory) -> Division:
    """Return the division of the last `make up`."""
    try:
        return Division.model_validate_json(state.division.read_text())
    except FileNotFoundError:
        return Division(_env_file=None)


def divided(division: Division) -> tuple[Program, ...]:
    """Return all programs, with additional workers and relays after those that share their work."""
    programs = [p for program in PROGRAMS for p in _parts(program, division)]
    further = [program.name for program in programs if program not in PROGRAMS and program.part]
    return tuple(
        replace(program, distance=_FIRST_PORT + further.index(program.name))
        if program.name in further
        else program
        for program in programs
    )


def changed(division: Division) -> tuple[Program, ...]:
    """Return the programs that an undivided system does not have, or runs with other settings."""
    undivided = divided(Division(_env_file=None, parts="", relays=""))
    return tuple(program for program in divided(division) if program not in undivided)


def _parts(program: Program, division: Division) -> Iterator[Program]:
    if program.name == f"{program.user}-worker":
        for part in range(division.parts.get(program.user, 1)):
            yield _part(program, part, WORKER_PART=part)
    elif program.name == f"{program.user}-relay":
        count = division.relays.get(program.user, 1)
        for part in range(count):
            yield _part(program, part, RELAY_PART=part, RELAY_PARTS=count)
    elif program.name == "console":
        yield replace(program, settings=(("PARTS", division.text()),))
    else:
        yield program


def _part(program: Program, part: int, **settings: int) -> Program:
    numbered = program if part == 0 else _numbered(program, part)
    return replace(numbered, settings=tuple((name, str(n)) for name, n in settings.items()))


def _numbered(program: Program, part: int) -> Program:
    # The node name of Celery must be unique.
    node, _, host = program.command.split()[-1].partition("@")
    command = program.command.removesuffix(f"{node}@{host}") + f"{node}-{part}@{host}"
    return replace(program, name=f"{program.name}-{part}", command=command, part=part)
