"""Events over Celery and RabbitMQ: each event has exactly one effect in each service.

The library does not depend on the shop that uses it.

- `events`: the envelope, the contracts and their versions, and the wire format
- `topology`: services, exchanges, queues, bindings, users and permissions, as data
- `messaging`: connections, publishers with confirms, and the stream
- `outbox`: the outbox table, and the relay that publishes it
- `consumer`: decoding, deduplication and handling of events, without Celery
- `worker`: the consumer runtime on Celery
- `catch_up`: recovery, from the stream, of events that a full queue dropped
- `database`: engines, transactions, wake-ups and migrations
- `telemetry`: logs, metrics and traces
- `settings`: settings from the environment
- `errors`: the library's exceptions
- `loop`: loops on their own threads, and their watchdog
- `watchdog`: the watchdog of an event loop
- `tls`: TLS options of clients
"""
