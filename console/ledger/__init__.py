"""The ledger: for each event and each service that consumes it, where the event is."""
