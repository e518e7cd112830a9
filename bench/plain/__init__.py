"""What each part is measured against: the usual way to do the same, done with care."""
