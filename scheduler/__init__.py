"""The clock: ticks for every relay and mailer, once a second."""
