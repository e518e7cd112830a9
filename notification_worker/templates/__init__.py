"""Email templates: a subject, a text and an HTML page for each kind."""
