"""The commands for people and the audit log, and the recording of commands in that log."""
