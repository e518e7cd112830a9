"""PostgreSQL, as operators inspect and change it."""
