"""Access to RabbitMQ for operators: inspection and changes."""
