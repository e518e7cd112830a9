"""A worker of a release in which `order.created` has one version."""
