"""The tables of the order service, and the queries on them, with a module for each purpose."""
