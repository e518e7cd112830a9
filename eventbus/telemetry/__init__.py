"""Logs, metrics and traces, without personal data.

- `logs`: logs as lines of JSON
- `metrics`: Prometheus metrics, and the page that serves them
- `certificate_expiry`: the expiry of certificates, as a metric
- `privacy`: descriptions of errors without customers' data
- `tracing`: spans, and the `traceparent` that identifies them
- `sampling`: the choice of the spans that are sent
- `trace_budget`: a limit on sampled traces per second
- `span_export`: export of spans over OTLP/HTTP
- `task_spans`: spans of Celery tasks
- `harmless`: a guard for the code that observes work
"""
