"""The templates of mails: for each kind a subject, a text and an HTML page."""
