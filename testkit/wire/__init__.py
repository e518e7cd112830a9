"""AMQP written by hand: messages that no client library would send."""
