"""The operators' tools: the `orderctl` command and the web console, over one set of actions."""
