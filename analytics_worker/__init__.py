"""Analytics: what the events of the past add up to."""
