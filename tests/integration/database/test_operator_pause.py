"""The rows of a service's pause: the one in effect, and the one that ended last."""

from eventbus.consumer import operator_pause
from eventbus.database.db import Sessions, transaction


def test_the_pause_that_ended_last_is_kept(order_database: Sessions) -> None:
    # Given a service that has not been paused
    with transaction(order_database) as session:
        assert operator_pause.latest(session) is None

    # When it is paused and resumed twice
    for reason in ("first", "second"):
        with transaction(order_database) as session:
            assert operator_pause.begin(session, reason=reason, by="ada") is None
        with transaction(order_database) as session:
            in_effect = operator_pause.latest(session)
            assert in_effect
            assert (in_effect.reason, in_effect.ended_seconds) == (reason, None)
            ended = operator_pause.end(session)
            assert ended
            assert ended.reason == reason

    # Then no pause is in effect, and the second one is the last
    with transaction(order_database) as session:
        assert operator_pause.read(session) is None
        assert operator_pause.end(session) is None
        ended = operator_pause.latest(session)
    assert ended
    assert (ended.reason, ended.paused_by) == ("second", "ada")
    assert ended.ended_seconds is not None
    assert 0 <= ended.ended_seconds <= ended.seconds < 600
