"""The overview: a live map of the services, sampled once for all viewers."""
