"""The system on Kubernetes: manifests for kustomize."""
