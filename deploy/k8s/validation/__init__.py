"""What the manifests are checked with: kustomize, and the schemas of third-party kinds."""
