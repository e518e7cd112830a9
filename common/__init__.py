"""Code that this shop's services share: contracts, topology and the HTTP server."""
