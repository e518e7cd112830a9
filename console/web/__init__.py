"""The operators' web page: shows what `orderctl` shows, and redrives or discards what is parked."""
