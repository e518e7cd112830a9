"""The web console, over the same actions as `orderctl`."""
