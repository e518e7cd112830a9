"""What operators work with: the `orderctl` command, over one set of actions."""
