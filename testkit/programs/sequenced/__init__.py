"""Workers of services that park in sequence."""
