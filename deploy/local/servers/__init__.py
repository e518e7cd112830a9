"""The servers of a local run: RabbitMQ, PostgreSQL and Prometheus."""
