"""The whole system on one machine, without containers: the implementation of `make up`.

`programs` is the table of the application's processes, `broker`, `database` and `mail_server` are
the servers they need, `supervision` keeps all of them alive, and `stack` starts and stops them in
order.
"""

from pathlib import Path

#: The checkout that this package belongs to.
REPOSITORY = Path(__file__).resolve().parents[2]

#: The settings of every kind of deployment: ports, and the numbers of parts and relays.
ENV_FILE = REPOSITORY / ".env"
