"""The notification service: sends mails to customers about their orders."""
