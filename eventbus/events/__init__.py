"""Events: the envelope, the catalogue of contracts, versions, and the wire format."""
