"""The prefetch limit: the number of unacknowledged messages that the broker sends to a worker."""

#: Maximum number of messages in one transaction. Measured: a higher limit is not faster, and holds
#: locks longer.
BATCH_LIMIT = 100

#: Prefetched messages for each child process of a worker: two full batches, so the next one is
#: ready when a child has finished.
PREFETCH = 2 * BATCH_LIMIT
