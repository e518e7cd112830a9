"""The pages of orders: the list with its filter, stuck orders, and one order."""
