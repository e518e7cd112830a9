"""Redrive plans: frozen sets of parked messages, their preparation, and their runs in stages."""
