"""The fraud check, which reports suspicious orders with reasons but does not stop them."""
