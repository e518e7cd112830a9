"""Operators' access to PostgreSQL: inspection and changes."""
