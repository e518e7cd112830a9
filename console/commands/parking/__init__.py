"""`orderctl parked`: groups, plans, redrives, edits, discards and history of parked messages."""
