"""The revisions of the library's tables, run by `eventbus.database.migrations`.

Each table is a branch of Alembic's, with the table's name as its label. A change of a table is one
more revision in its branch; a new table is one more branch, a name in `Service.library_tables` and
an import in `env.py`. The first revision of a table accepts a table that already exists, because
older revisions of the shop's services have created some.
"""
