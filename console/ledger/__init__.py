"""The ledger: the place of each event, for each service that consumes it."""
