"""Fetches the definitions of the Kubernetes operators' kinds, each from its project's Go module.

`python -m deploy.k8s.validation.kinds DIRECTORY` writes them there; this repository has none.
"""

# ruff: noqa: S603, S607, every command is a list of constants, and `go` is found on the path

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory


@dataclass(frozen=True)
class Definition:
    """A CustomResourceDefinition in a Go module that is pinned by `sum`."""

    module: str
    version: str
    sum: str
    path: str

    @property
    def name(self) -> str:
        """The name of the file."""
        return Path(self.path).name


DEFINITIONS = (
    Definition(
        "github.com/cloudnative-pg/cloudnative-pg",
        "v1.25.1",
        "h1:Yc6T7ikQ1AiWXBQht+6C3DoihrIpUN2OkM1dIwqadTo=",
        "config/crd/bases/postgresql.cnpg.io_clusters.yaml",
    ),
    Definition(
        "github.com/kedacore/keda/v2",
        "v2.16.1",
        "h1:LfYsxfSX8DjetLW8q9qnriImH936POrQJvE+caRoScI=",
        "config/crd/bases/keda.sh_scaledobjects.yaml",
    ),
    Definition(
        "github.com/rabbitmq/cluster-operator/v2",
        "v2.16.0",
        "h1:oYJm+1tXIatGHtiUWyN9hGdO+0eWsXA/j1b81wh0IqI=",
        "config/crd/bases/rabbitmq.com_rabbitmqclusters.yaml",
    ),
    Definition(
        "github.com/prometheus-operator/prometheus-operator",
        "v0.85.0",
        "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
        "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
    ),
)


def main(directory: Path) -> None:
    """Write every definition to a directory; exit with a line that names one that fails."""
    directory.mkdir(parents=True, exist_ok=True)
    for definition in DEFINITIONS:
        (directory / definition.name).write_text(_fetched(definition))


def _fetched(definition: Definition) -> str:
    wanted = f"{definition.module}@{definition.version}"
    # The command runs outside any module, because the dependencies of this module are not needed.
    with TemporaryDirectory() as nowhere:
        done = subprocess.run(
            ["go", "mod", "download", "-json", wanted],
            cwd=nowhere,
            capture_output=True,
            text=True,
            check=False,
        )
    module = json.loads(done.stdout or "{}")
    if "Dir" not in module:
        raise SystemExit(f"{wanted}: {module.get('Error') or done.stderr.strip()}")
    if module["Sum"] != definition.sum:
        raise SystemExit(f"{wanted} has changed: its sum is {module['Sum']}, not {definition.sum}")
    return (Path(module["Dir"]) / definition.path).read_text()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
