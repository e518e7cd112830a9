"""The inventory: knows what is in stock, and reserves it for orders."""
