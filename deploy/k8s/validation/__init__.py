"""What the manifests are checked against: kustomize, and the schemas of other people's kinds."""
