"""Catching up: a service takes from the stream what its queue has dropped."""
