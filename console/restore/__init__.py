"""The restoration: a database that was set back is brought up to date from the other services."""
