"""Events, as messages and deliveries."""
