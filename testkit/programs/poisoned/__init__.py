"""A real worker that an event kills."""

#: The address of the customer whose order kills the worker.
POISON = "poison@example.com"
