"""Pages of parked messages: groups and their triage, edits, and the history of a message."""
