"""Operators' access to RabbitMQ: inspection and changes."""
