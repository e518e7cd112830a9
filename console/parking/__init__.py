"""Repair of parked messages: groups, redrive plans and discards."""
