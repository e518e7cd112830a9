"""Real servers and processes of this system, for tests, benchmarks and other teams' services."""
