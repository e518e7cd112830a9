"""The web console: shows what `orderctl` shows, and redrives or discards parked messages."""
