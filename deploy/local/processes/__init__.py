"""The processes of a local run, and their supervisor."""
