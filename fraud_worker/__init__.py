"""The fraud check, which reports suspicious orders with the reasons, and does not stop them."""
