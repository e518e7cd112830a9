"""A real worker with a third party's receivers."""
