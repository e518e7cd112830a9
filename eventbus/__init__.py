"""Events over Celery and RabbitMQ, with exactly one effect each. The library knows no shop."""
