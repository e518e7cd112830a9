"""The outbox before the library migrated its own tables: steps that the services' revisions run.

These modules must not change, because released revisions run them. New revisions of the outbox are
in `eventbus/migrations/versions`.
"""
