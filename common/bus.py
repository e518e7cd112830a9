"""The broker objects that all services of this shop share, and the catalogue of its events."""

import common.events  # noqa: F401 - its catalogue has the versions of each event type
from eventbus.topology.service import Bus

BUS = Bus("orders")
EVENTS = BUS.events
DEAD_LETTERS = BUS.dead_letters
TICKS = BUS.ticks
STREAM = BUS.stream
