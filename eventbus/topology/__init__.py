"""The topology: services, exchanges, queues, bindings, users and permissions, as data.

- `service`: a service, the names of its broker objects, and the objects that services share
- `objects`: exchanges, queues and bindings, derived from the services
- `users`: users and permissions, derived from the services
- `limits`: limits of queues and of the stream, and the retry schedule
"""
