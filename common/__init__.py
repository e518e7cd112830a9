"""Mechanism every service shares: contracts, topology, outbox, relay, inbox, consumer, settings."""
