"""The operators' actions, as functions that neither parse arguments nor print."""
