"""Changes of the number of parts of a queue."""
