"""Settings: parsed once from the environment and validated at start.

- `base`: the settings of every process, and their sources
- `broker`: the RabbitMQ connection
- `database`: the PostgreSQL connection
- `service`: a broker and a database
- `dedup_window`: how long events are remembered
- `addresses`: lists of server addresses
- `client_certificate`: the client certificate for the broker
"""
