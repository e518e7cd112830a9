"""The fraud check: reports suspicious orders, with the reasons. It stops no order."""
