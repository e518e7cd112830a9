"""A real worker whose handlers fail as the order's e-mail address specifies."""
