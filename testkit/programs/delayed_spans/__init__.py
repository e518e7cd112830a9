"""A real worker that sends its spans only when it ends."""
