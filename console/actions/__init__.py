"""What an operator can do, as functions that neither parse arguments nor print."""
