"""The code of this shop that its services share: contracts, topology, and the HTTP server."""
