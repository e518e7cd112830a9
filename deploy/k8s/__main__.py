"""Writes the manifests that are generated from the declarations: `python -m deploy.k8s`."""

from deploy.k8s import division, programs, release
from deploy.local.processes.parts import configured_division

programs.FILE.write_text(programs.manifests())
release.FILE.write_text(release.manifest())
division.write(division.DIRECTORY, configured_division(division.SETTINGS))
