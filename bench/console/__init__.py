"""The console under measurement: what its pages show, and how fast they respond."""
