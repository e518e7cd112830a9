"""The topology: services, exchanges, queues, bindings, users and permissions, as data."""
