"""The console under measurement: its pages, their content, and the duration of their responses."""
