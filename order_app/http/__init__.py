"""The HTTP API of the order service: routes, requests, responses, and what guards them."""
