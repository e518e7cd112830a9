"""A real worker that exports its spans only at shutdown."""
