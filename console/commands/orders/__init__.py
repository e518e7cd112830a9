"""`orderctl orders`: finds, follows, ships and cancels orders."""
