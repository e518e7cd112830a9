"""AMQP at the level of bytes: messages that client libraries do not send."""
