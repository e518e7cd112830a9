"""The limits of deliveries, queues and the stream."""

from datetime import timedelta

#: Maximum number of deliveries of one message that end with a lost connection. The broker then
#: parks the message. The broker counts such deliveries for every prefetched message, so this limit
#: is only the last resort against a message that crashes every worker. `eventbus.consumer.poison`
#: finds a message whose handler crashes.
DELIVERY_LIMIT = 1_000

#: RabbitMQ 4 drops a message after 20 deliveries unless its queue has another limit.
UNLIMITED = 2**31 - 1

#: Maximum number of messages in one service's queue. Beyond this limit, the queue of an essential
#: service rejects events, which wait in the outbox. Any other queue drops its oldest message, whose
#: event the service reads from the stream later: see `eventbus.catch_up`.
QUEUE_LIMIT = 1_000_000

#: Maximum number of parts of one service's queue. Each part is a process of RabbitMQ and has at
#: least one worker. A queue with 64 parts can receive more messages than a service with one
#: PostgreSQL primary can handle.
PARTS_LIMIT = 64

#: The time for which the stream keeps an event: two weeks, as in the outbox. Older faults cannot be
#: repaired by a replay. The broker deletes events by the segment, so some events stay longer.
STREAM_AGE = timedelta(days=14)

#: Maximum size of the stream in bytes, which is sufficient for about three million orders. Beyond
#: the limit the oldest segments are deleted early, so a busy week does not fill the broker's disk.
STREAM_BYTES = 10_000_000_000

#: Size of one segment of the stream in bytes. The broker does not delete a segment before it is
#: full. With RabbitMQ's default of 500 MB, a small system would keep months of events.
STREAM_SEGMENT_BYTES = 20_000_000
