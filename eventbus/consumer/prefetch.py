"""The prefetch limit: the number of unacknowledged messages that the broker sends to a worker."""

#: Maximum number of messages in one transaction. In measurements, a higher limit was not faster,
#: and locks were held longer.
BATCH_LIMIT = 100

#: Number of prefetched messages for each child process of a worker. This number equals two full
#: batches, so the next batch is ready when a child has finished.
PREFETCH = 2 * BATCH_LIMIT
