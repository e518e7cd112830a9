"""Events: the envelope, the catalogue of contracts, versions, and the wire format.

- `catalogue`: the contracts of a system, and the catalogue of this process
- `codec`: encoding and decoding of messages
- `conversion`: conversion of an event between the versions of its fact
- `envelope`: an event with its CloudEvents attributes
- `limits`: limits of what every service can store
- `schema`: JSON Schemas of the envelope and of each contract
- `versions`: the event types of a fact
"""
