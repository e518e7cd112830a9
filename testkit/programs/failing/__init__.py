"""A real worker whose handlers fail as the order's email address specifies."""
