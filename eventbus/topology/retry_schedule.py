"""The retry schedule of failed events."""

#: Seconds for which a failed event waits before each retry. A failure after the last tier parks the
#: event. `RETRY_TIERS` in the environment overrides them.
RETRY_TIERS = (1.0, 5.0, 30.0, 120.0, 600.0)
