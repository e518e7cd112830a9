"""The protocol between outbox, broker and inbox as a small model, explored exhaustively."""
