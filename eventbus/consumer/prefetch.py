"""Prefetch: how many messages the broker sends to a worker before they are acknowledged."""

#: Maximum number of messages in one transaction. Measured: a higher limit is not faster, and holds
#: locks longer.
BATCH_LIMIT = 100

#: Prefetched messages for each child process of a worker: two full batches, so the next one is
#: ready when a child has finished.
PREFETCH = 2 * BATCH_LIMIT
