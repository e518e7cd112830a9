"""The order service's tables, one module for each purpose."""
