"""The HTTP API of the order service: routes, requests, responses, access control and limits."""
