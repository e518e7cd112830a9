"""A system of another domain, which uses only the library."""
