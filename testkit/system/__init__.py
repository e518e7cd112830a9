"""The parts of `testkit.processes.stack.Stack`."""
