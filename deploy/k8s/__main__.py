"""Writes the manifests that are generated from the table of programs: `python -m deploy.k8s`."""

from deploy.k8s import programs

programs.FILE.write_text(programs.manifests())
