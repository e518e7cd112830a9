"""A worker from before `order.created` had a second version."""
