"""Access to PostgreSQL for operators: inspection and changes."""
