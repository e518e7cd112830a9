"""`orderctl parked`: groups, plans, redrives and discards of parked messages."""
