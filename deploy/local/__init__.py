"""The whole system on one machine, without containers: what `make up` and its friends do.

`programs` is the table of the application's processes, `broker`, `database` and `mail` are what
they need, `supervision` keeps all of them alive, and `stack` brings them up and down in order.
"""

from pathlib import Path

#: The checkout that this package belongs to.
REPOSITORY = Path(__file__).resolve().parents[2]
