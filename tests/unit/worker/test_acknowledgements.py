"""Consecutive deliveries are acknowledged together, and only when all of them are settled."""

from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus.worker.acknowledgements import Acknowledgements


class Channel:
    """The deliveries that the broker waits for on a channel."""

    connection = True

    def __init__(self, deliveries: int) -> None:
        self.waiting = set(range(1, deliveries + 1))
        self.frames = 0

    def basic_ack(self, tag: int, multiple: bool = False) -> None:
        assert tag in self.waiting, "the broker closes a channel for an unknown tag"
        self.frames += 1
        self.waiting -= {t for t in self.waiting if t <= tag} if multiple else {tag}

    def basic_reject(self, tag: int, requeue: bool) -> None:
        self.basic_ack(tag)


def received(channel: Channel) -> tuple[Acknowledgements, dict[int, Any]]:
    """Return the acknowledgements and the messages of all deliveries of a channel."""
    acknowledgements = Acknowledgements(errors=(ConnectionError,))
    messages = {
        tag: SimpleNamespace(delivery_tag=tag, channel=channel) for tag in sorted(channel.waiting)
    }
    for message in messages.values():
        acknowledgements.expect(message)
    return acknowledgements, messages


def test_consecutive_deliveries_take_one_frame() -> None:
    # Given a hundred deliveries
    channel = Channel(100)
    acknowledgements, messages = received(channel)

    # When all but the last are acknowledged
    acknowledgements.acknowledge([messages[tag] for tag in range(1, 100)])

    # Then one frame has acknowledged them
    assert (channel.waiting, channel.frames) == ({100}, 1)


def test_a_delivery_after_a_gap_is_acknowledged_alone() -> None:
    channel = Channel(4)
    acknowledgements, messages = received(channel)

    acknowledgements.acknowledge([messages[2], messages[4]])

    assert (channel.waiting, channel.frames) == ({1, 3}, 2)


@pytest.mark.parametrize("settle", ["a run", "single ones", "a rejection"])
def test_a_delivery_is_held_until_its_settlement_is_sent(settle: str) -> None:
    # Given a channel that fails while a settlement is sent
    channel = Channel(3)
    acknowledgements, messages = received(channel)

    def settle_some() -> None:
        if settle == "a rejection":
            acknowledgements.reject(messages[1])
        else:
            tags = [1, 2] if settle == "a run" else [2]
            acknowledgements.acknowledge([messages[tag] for tag in tags])

    with patch.object(channel, "basic_ack", side_effect=ConnectionResetError):
        settle_some()
    assert all(acknowledgements.holds(message) for message in messages.values())

    # When it is settled again, then the broker receives the settlement
    settle_some()
    left = {"a run": {3}, "single ones": {1, 3}, "a rejection": {2, 3}}
    assert channel.waiting == left[settle]


@given(st.data())
def test_exactly_the_settled_deliveries_are_acknowledged(data: Any) -> None:
    # Given deliveries that end in any order, in batches of any size, some of them rejected
    channel = Channel(data.draw(st.integers(1, 30)))
    acknowledgements, messages = received(channel)
    left = set(messages)
    while left:
        batch = data.draw(st.sets(st.sampled_from(sorted(left)), min_size=1))
        left -= batch

        # When a batch is settled
        if data.draw(st.booleans()):
            acknowledgements.acknowledge([messages[tag] for tag in batch])
        else:
            for tag in batch:
                acknowledgements.reject(messages[tag])

        # Then the broker waits for the rest
        assert channel.waiting == left
