"""Redrive plans: a frozen set of parked messages, its preparation, and its run in stages."""
