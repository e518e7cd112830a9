"""Queries for unsent events, in the whole outbox and in some of its slots.

Every query reads a range of an index, in index order. The queries for slots sort lanes in
descending order, as only the index of slots does. The planner therefore cannot choose the index of
the whole outbox, in which they would also scan the events of other relays.
"""

# ruff: noqa: S608, constants of these modules

from dataclasses import dataclass

from eventbus.database.statement import Statement
from eventbus.outbox.slots import SLOT

_EVENT = """
    id, event_id, type, subject, attempts,
    CASE WHEN octet_length(event) <= $1 THEN event END AS event,
    extract(epoch FROM clock_timestamp() - created_at)::float AS age
"""

# An event waits for the earlier events of its order, which may be unroutable or refused. The
# earlier events must be found among the few events of that order, regardless of the statistics: if
# no event was unsent at the last ANALYZE, the planner would scan all unsent events for each row.
# Therefore the subquery matches neither the index of unsent events nor the primary key, and OFFSET
# keeps it separate.
_IS_BEHIND = """
    EXISTS (
        SELECT FROM outbox AS earlier
        WHERE earlier.subject = outbox.subject AND earlier.id + 0 < outbox.id
            AND coalesce(earlier.sent_at, 'infinity') = 'infinity'
        OFFSET 0
    ) AS is_behind
"""


@dataclass(frozen=True)
class Queries:
    """The queries of a relay. The queries for slots have additional parameters at the end."""

    #: The query that returns 0 if an event waits for its turn, and otherwise null. It reads one
    #: index entry, or one per slot.
    due: Statement
    #: The query that claims events. Waiting events count as read, so a claim reads at most its
    #: limit of rows, or one more row for each slot. No clock is involved: an event that never
    #: failed is due.
    claim: Statement
    #: The query that returns the first events of a lane.
    lane: Statement
    #: The query that returns the lanes, each with the seconds until its first event is due. It
    #: skips from each lane to the next, with one index lookup per lane and slot.
    lanes: Statement


WHOLE = Queries(
    due=Statement(
        "due_in_outbox",
        """
        SELECT 0.0 FROM outbox WHERE sent_at IS NULL AND waits_for IS NULL AND id >= $1
        ORDER BY waits_for, id LIMIT 1
        """,
        "bigint",
    ),
    claim=Statement(
        "claim_in_outbox",
        f"""
        SELECT {_EVENT}, {_IS_BEHIND} FROM outbox
        WHERE sent_at IS NULL AND waits_for IS NULL AND id >= $2 AND id <> ALL ($3)
        ORDER BY waits_for, id LIMIT $4
        """,
        "int",
        "bigint",
        "bigint[]",
        "int",
    ),
    lane=Statement(
        "claim_lane_in_outbox",
        f"""
        SELECT {_EVENT} FROM outbox WHERE sent_at IS NULL AND waits_for = $2
        ORDER BY waits_for, id LIMIT $3
        """,
        "int",
        "text",
        "int",
    ),
    lanes=Statement(
        "lanes_in_outbox",
        """
        WITH RECURSIVE lane AS (
            (
                SELECT waits_for, next_attempt_at FROM outbox
                WHERE sent_at IS NULL AND waits_for IS NOT NULL ORDER BY waits_for, id LIMIT 1
            )
            UNION ALL
            SELECT following.* FROM lane CROSS JOIN LATERAL (
                SELECT waits_for, next_attempt_at FROM outbox
                WHERE sent_at IS NULL AND outbox.waits_for > lane.waits_for
                ORDER BY waits_for, id LIMIT 1
            ) AS following
        )
        SELECT waits_for, CASE
            WHEN next_attempt_at NOT BETWEEN now() AND now() + $1 * interval '1 second' THEN 0
            ELSE extract(epoch FROM next_attempt_at - clock_timestamp())
        END::float AS seconds
        FROM lane
        """,
        "float",
    ),
)

# The limit of each slot is its share of the limit. If a slot has fewer events, the remainder of its
# share is not used by other slots in the same claim.
OF_SLOTS = Queries(
    due=Statement(
        "due_in_slots",
        f"""
        SELECT 0.0 FROM unnest($2) AS own (slot) CROSS JOIN LATERAL (
            SELECT FROM outbox
            WHERE sent_at IS NULL AND {SLOT} = own.slot AND waits_for IS NULL AND id >= $1
            ORDER BY waits_for DESC, id LIMIT 1
        ) AS first LIMIT 1
        """,
        "bigint",
        "int[]",
    ),
    claim=Statement(
        "claim_in_slots",
        f"""
        SELECT {_EVENT}, {_IS_BEHIND} FROM unnest($5) AS own (slot) CROSS JOIN LATERAL (
            SELECT * FROM outbox
            WHERE sent_at IS NULL AND {SLOT} = own.slot AND waits_for IS NULL
                AND id >= $2 AND id <> ALL ($3)
            ORDER BY waits_for DESC, id LIMIT $6
        ) AS outbox ORDER BY id LIMIT $4
        """,
        "int",
        "bigint",
        "bigint[]",
        "int",
        "int[]",
        "int",
    ),
    lane=Statement(
        "claim_lane_in_slots",
        # The condition is a range, because with an equality the planner could use any index of ids
        # for the order.
        f"""
        SELECT {_EVENT} FROM unnest($4) AS own (slot) CROSS JOIN LATERAL (
            SELECT * FROM outbox
            WHERE sent_at IS NULL AND {SLOT} = own.slot AND waits_for BETWEEN $2 AND $2
            ORDER BY waits_for DESC, id LIMIT $5
        ) AS outbox ORDER BY id LIMIT $3
        """,
        "int",
        "text",
        "int",
        "int[]",
        "int",
    ),
    lanes=Statement(
        "lanes_in_slots",
        f"""
        WITH RECURSIVE lane AS (
            SELECT own.slot, first.* FROM unnest($2) AS own (slot) CROSS JOIN LATERAL (
                SELECT waits_for, next_attempt_at FROM outbox
                WHERE sent_at IS NULL AND {SLOT} = own.slot AND waits_for IS NOT NULL
                ORDER BY waits_for DESC, id LIMIT 1
            ) AS first
            UNION ALL
            SELECT lane.slot, following.* FROM lane CROSS JOIN LATERAL (
                SELECT waits_for, next_attempt_at FROM outbox
                WHERE sent_at IS NULL AND {SLOT} = lane.slot
                    AND outbox.waits_for < lane.waits_for
                ORDER BY waits_for DESC, id LIMIT 1
            ) AS following
        )
        SELECT waits_for, min(CASE
            WHEN next_attempt_at NOT BETWEEN now() AND now() + $1 * interval '1 second' THEN 0
            ELSE extract(epoch FROM next_attempt_at - clock_timestamp())
        END)::float AS seconds
        FROM lane GROUP BY waits_for
        """,
        "float",
        "int[]",
    ),
)
