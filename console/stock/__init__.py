"""Stock files and reports."""
