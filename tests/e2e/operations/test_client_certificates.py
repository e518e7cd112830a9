"""The whole system runs without a password on the broker."""

import re

from click.testing import CliRunner

from console.certificates.certificate_authority import Authority
from console.orderctl import main
from deploy.local.processes.programs import PROGRAMS, Health
from testkit.eventually import eventually
from testkit.processes.stack import Stack
from testkit.servers.infrastructure import Infrastructure

#: Not Flower, which must log in at the management API too, nor its like.
#: Nor the console, which connects only while somebody looks at a parking lot.
BY_CERTIFICATE = [
    p
    for p in PROGRAMS
    if p.name not in ("spans", "api", "console") and p.health is not Health.METRICS
]


def test_every_process_works_by_its_certificate(stack: Stack, servers: Infrastructure) -> None:
    # Given a certificate of each user, and no password
    environment = {"ORDERS_ENV_FILE": str(servers.operator_environment)}
    made = CliRunner().invoke(main, ["tls", "init", "--clients"], env=environment)
    assert made.exit_code == 0, made.output
    stack.extra["BROKER_PASSWORD_FILE"] = ""
    authority = Authority(servers.ca_file.parent)
    stack.start("api")
    for program in BY_CERTIFICATE:
        stack.extra["BROKER_CLIENT_CERTIFICATE_FILE"] = str(authority.client_file(program.user))
        stack.start(program.name)

    # When an order comes
    stack.stock(TEA=1)
    order_id = stack.place(("TEA", 1))

    # Then all have done their work
    assert stack.decided(order_id) == ("CONFIRMED", None)
    eventually(lambda: _equal(len(stack.mails()), 2))

    # And the broker knows each by its certificate only
    def known() -> None:
        logins = stack.vhost.request("GET", f"/vhosts/{stack.vhost.name}/connections").json()
        found = {(c["user"], c["auth_mechanism"], c["peer_cert_subject"]) for c in logins}
        users = {program.user for program in BY_CERTIFICATE}
        assert found == {(user, "EXTERNAL", f"CN={user}") for user in users}

    eventually(known)
    for program in BY_CERTIFICATE:
        log = stack.log(program.name)
        assert not re.search(r"Traceback|ERROR|interrupted", log), log


def _equal(found: object, expected: object) -> None:
    assert found == expected
