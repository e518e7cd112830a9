"""PostgreSQL: engines, transactions, prepared statements, wake-ups and migrations."""
