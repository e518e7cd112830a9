"""The baseline of each part: the usual way to do the same, implemented with care."""
