"""The people who may use the console, their logins, and the audit log of their actions."""
