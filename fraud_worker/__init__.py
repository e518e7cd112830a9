"""The fraud check: tells which orders look like fraud, and why. It stops none."""
