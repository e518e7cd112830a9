"""Access to the console: logins, rights, masked addresses, and the recording of actions."""
