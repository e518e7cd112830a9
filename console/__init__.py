"""What operators work with: the `orderctl` command and a web page, over one set of actions."""
