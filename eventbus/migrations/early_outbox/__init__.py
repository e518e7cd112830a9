"""The outbox before the library migrated its own tables: steps that services' revisions run.

They must not change: a database that was created by them equals one that was created by a release
before. New revisions of the outbox are in `eventbus/migrations/versions`.
"""
