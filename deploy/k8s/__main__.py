"""Writes the manifests that are generated from the declarations: `python -m deploy.k8s`."""

from deploy.k8s import programs, release

programs.FILE.write_text(programs.manifests())
release.FILE.write_text(release.manifest())
