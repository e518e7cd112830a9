"""Programs that fail, stall or crash on purpose."""
