"""Faults of clocks and of the mail server."""

from testkit.campaign.fault import Fault, ProgramFault
from testkit.campaign.system import MAIL, PROGRAMS

#: The step of the clock, in seconds.
_HOUR = 3_600


class ClockStep(ProgramFault):
    """The wall clock of one program steps by an hour, and back."""

    name = "clock"
    candidates = PROGRAMS

    def choose(self) -> None:
        super().choose()
        self._program = self.detail
        self._step = self.rng.choice((-_HOUR, _HOUR))
        self.detail = f"{self._program} {self._step:+d} s"

    def prepare(self) -> None:
        self._clock = self.stack.clocks.get(self._program) or self.stack.clock(self._program)

    def inject(self) -> None:
        self._clock.set(self._step)

    def heal(self) -> None:
        self._clock.set(0)


class _MailFault(Fault):
    def choose(self) -> None:
        self.targets = frozenset({MAIL})


class MailRefused(_MailFault):
    """The mail server rejects every email for now."""

    name = "mail-refused"

    def inject(self) -> None:
        self.stack.mailbox.refuse(451, "4.3.0 try again later")

    def heal(self) -> None:
        self.stack.mailbox.accept()


class MailSlow(_MailFault):
    """The mail server replies to each email after two seconds."""

    name = "mail-slow"

    def inject(self) -> None:
        self.stack.mailbox.delay = 2.0

    def heal(self) -> None:
        self.stack.mailbox.delay = 0.0
