"""What the mails say; for each kind of mail a subject, a text and an HTML page."""
