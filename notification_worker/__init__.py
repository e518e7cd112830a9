"""The notification service: tells customers by mail what became of their orders."""
