"""A system of another domain, which uses the library alone."""
