"""The limits of deliveries, queues and the stream."""

from datetime import timedelta

#: Deliveries of one message that may end with their connection before the broker parks it. The
#: broker counts them for every prefetched message, so this limit is a last resort against a message
#: that no worker survives receiving. `eventbus.consumer.poison` finds a message whose handler
#: crashes.
DELIVERY_LIMIT = 1_000

#: RabbitMQ 4 drops a message after 20 deliveries unless its queue has another limit.
UNLIMITED = 2**31 - 1

#: Messages in one service's queue. Beyond the limit, the queue of an essential service rejects
#: events, which wait in the outbox. Any other queue drops its oldest message, which the service
#: takes from the stream later: see `eventbus.catch_up`.
QUEUE_LIMIT = 1_000_000

#: Parts of one service's queue. Each part is a process of RabbitMQ and has at least one worker.
#: With 64 parts, a queue can receive more messages than one PostgreSQL primary can handle.
PARTS_LIMIT = 64

#: The time for which the stream keeps an event. Two weeks, as in the outbox: faults that are older
#: cannot be repaired by a replay. The broker deletes whole segments, so some events stay longer.
STREAM_AGE = timedelta(days=14)

#: Bytes of the stream: about three million orders. Beyond the limit the oldest segments are deleted
#: early, so a busy week does not fill the broker's disk.
STREAM_BYTES = 10_000_000_000

#: Bytes of one segment of the stream. The broker does not delete a segment before it is full. With
#: RabbitMQ's default of 500 MB, a small system would keep months of events.
STREAM_SEGMENT_BYTES = 20_000_000
