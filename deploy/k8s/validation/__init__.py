"""Validation of the manifests with kustomize and the schemas of third-party kinds."""
