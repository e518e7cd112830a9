"""Settings: parsed once from the environment and validated at start."""
