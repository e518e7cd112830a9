"""The inventory service: the stock of each SKU, and its reservations for orders."""
