"""The rules of the protocol. If any rule is broken, the model has a counterexample."""

from enum import Enum


class Rule(Enum):
    """A rule, with its statement."""

    MARK_AFTER_CONFIRM = "an event is marked sent only after the broker's confirm"
    MARK_CONFIRMED_ONLY = "of a batch, only the confirmed events are marked sent"
    MANDATORY = "the broker returns an event that no queue receives"
    ONE_PER_ORDER = "an event is claimed only if the earlier events of its order are sent"
    RELEASE_WITH_MARK = "the events behind an event are released in the statement that marks it"
    HOLD_EXCLUDES_RELEASE = "no release commits while an event is being put behind another"
    KEEP_UNSENT = "retention deletes no unsent event"
    DEDUP = "an event in the inbox has no effect"
    EFFECT_WITH_INBOX_ROW = "no effect is committed after its inbox row"
    INBOX_ROW_WITH_EFFECT = "no inbox row is committed after its effect"
    ACK_AFTER_COMMIT = "a message is acknowledged only after the commit of its effect"
    ACK_AFTER_COPY = "a failed message is acknowledged only after the confirm of its copy"
    RETRY_TO_OWN_QUEUE = "a retry returns to the queue of the service that failed"
    PARK_AFTER_LAST_ATTEMPT = "a message that fails at its last attempt is parked"
    REDRIVE_ACK_AFTER_CONFIRM = "a parked message is removed only after the confirm of its copy"
    WINDOW_COVERS_COPIES = "an inbox row is kept while a copy of its event exists"
    WAIT_BEHIND = "an event waits while an earlier event of its order is recorded as parked"
    RECORD_BEFORE_COPY = "a failed event is recorded before its copy is parked"
    WAITING_IS_RECORDED = "an event that waits is recorded as parked as well"
    ROW_DELETED_WITH_EFFECT = "the record of a parked event is deleted with its effect"


#: The broken rules of a run of the model.
Broken = frozenset[Rule]

NONE_BROKEN: Broken = frozenset()
