"""RabbitMQ, as operators inspect and change it."""
