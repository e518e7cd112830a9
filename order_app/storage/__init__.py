"""The tables of the order service, with a module for each purpose."""
