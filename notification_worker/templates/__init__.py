"""The templates of emails: for each kind a subject, a text and an HTML page."""
