"""Alembic revisions of the library's tables, which `eventbus.database.migrations` applies.

Each table has its own Alembic branch, labelled with the table's name. A change to a table is a new
revision in its branch. A new table is a new branch, a name in `Service.library_tables` and, for a
new module, an import in `env.py`. The first revision in a branch accepts an existing table, because
earlier revisions of the shop's services have created some of them.
"""
