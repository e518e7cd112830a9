"""The notification service, which sends emails to customers about their orders."""
