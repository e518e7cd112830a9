"""Workers with a bug that a test fixes."""

#: The module of the inventory's worker, whose handler fails while the file `$BUG` exists.
INVENTORY_WORKER = f"{__name__}.inventory_worker"
