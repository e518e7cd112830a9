"""Onlookers: programs that show what workers tell of their tasks. They ask no worker anything."""
