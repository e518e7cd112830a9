"""Mail servers and mailers."""
