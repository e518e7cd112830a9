"""The operators' web page: shows what `orderctl` shows, and redrives what is parked."""
