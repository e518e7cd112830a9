"""The index of large parking lots, in the console's database."""
