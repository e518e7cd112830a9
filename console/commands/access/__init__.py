"""The commands of people and of the audit log, and the recording of all commands that act."""
