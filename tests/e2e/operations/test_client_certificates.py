"""The whole system with client certificates, and without a password on the broker."""

import re

from click.testing import CliRunner

from console.certificates.certificate_authority import Authority
from console.orderctl import main
from deploy.local.processes.programs import PROGRAMS, Health
from testkit.eventually import becomes, eventually
from testkit.processes.stack import Stack
from testkit.servers.infrastructure import Infrastructure

#: Not Flower and other monitoring, which also log in to the management API, and not the console,
#: which connects only while it shows a parking lot.
BY_CERTIFICATE = [
    p
    for p in PROGRAMS
    if p.name not in ("spans", "api", "console") and p.health is not Health.METRICS
]


def test_every_process_authenticates_by_its_certificate(
    stack: Stack, servers: Infrastructure
) -> None:
    # Given a certificate for each user, and no password
    environment = {"ORDERS_ENV_FILE": str(servers.operator_environment)}
    result = CliRunner().invoke(main, ["tls", "init", "--clients"], env=environment)
    assert result.exit_code == 0, result.output
    stack.extra["BROKER_PASSWORD_FILE"] = ""
    authority = Authority(servers.ca_file.parent)
    stack.start("api")
    for program in BY_CERTIFICATE:
        stack.extra["BROKER_CLIENT_CERTIFICATE_FILE"] = str(authority.client_file(program.user))
        stack.start(program.name)

    # When an order is placed
    stack.stock(TEA=1)
    order_id = stack.place(("TEA", 1))

    # Then every process has done its work
    assert stack.decided(order_id) == ("CONFIRMED", None)
    becomes(lambda: len(stack.mails()), 2)

    # And each has authenticated by its certificate
    def authenticated() -> None:
        logins = stack.vhost.request("GET", f"/vhosts/{stack.vhost.name}/connections").json()
        users_by_certificate = {
            (c["user"], c["auth_mechanism"], c["peer_cert_subject"]) for c in logins
        }
        users = {program.user for program in BY_CERTIFICATE}
        assert users_by_certificate == {(user, "EXTERNAL", f"CN={user}") for user in users}

    eventually(authenticated)
    for program in BY_CERTIFICATE:
        log = stack.log(program.name)
        assert not re.search(r"Traceback|ERROR|interrupted", log), log
