"""The baseline of each part: the conventional implementation, written with care."""
