"""Analytics: figures that are derived from past events."""
