"""AMQP: connections, publishers with confirms, and the stream."""
