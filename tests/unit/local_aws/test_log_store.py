"""The local account's log events: on disk, in the order of their time, until they expire."""

import copy
from pathlib import Path
from typing import Any

import pytest

from local_aws.emulator.log_store import LogStore, StreamEvents


@pytest.fixture
def store(tmp_path: Path) -> LogStore:
    return LogStore(tmp_path / "logs.db")


def messages(events: StreamEvents) -> list[str]:
    return [event["message"] for event in events]


def test_events_are_in_the_order_of_their_time_also_if_they_come_late(store: LogStore) -> None:
    events = StreamEvents(store, store.new_stream())
    store.append(events.stream, [(10, 100, "b"), (30, 100, "d")])
    store.append(events.stream, [(20, 200, "c"), (5, 200, "a"), (30, 200, "e")])
    assert messages(events) == ["a", "b", "c", "d", "e"]
    assert (events[0]["message"], events[4]["message"], events[-1]["message"]) == ("a", "e", "e")
    assert [event["message"] for event in events[1:3]] == ["b", "c"]
    assert events[3:1] == []
    for beyond in (5, -6):
        with pytest.raises(IndexError):
            events[beyond]


def test_a_long_stream_is_read_page_by_page(store: LogStore) -> None:
    events = StreamEvents(store, store.new_stream())
    store.append(events.stream, [(number, 0, str(number)) for number in range(2500)])
    assert messages(events) == [str(number) for number in range(2500)]
    assert [events[number]["message"] for number in range(2500)] == messages(events)
    assert (len(events), store.size(events.stream)) == (2500, sum(len(str(number)) for number in range(2500)))
    store.append(events.stream, [(-1, 0, "first")])
    assert events[0]["message"] == "first"


def test_streams_are_apart(store: LogStore) -> None:
    one, other = (StreamEvents(store, store.new_stream()) for _ in range(2))
    store.append(one.stream, [(1, 1, "one")])
    assert (messages(one), messages(other), len(other)) == (["one"], [], 0)


def test_an_event_is_found_by_its_id(store: LogStore) -> None:
    stream = store.new_stream()
    (_, second) = store.append(stream, [(1, 1, "one"), (2, 2, "two")])
    found = store.find(second)
    assert found is not None
    assert (found.stream, found.timestamp, found.message) == (stream, 2, "two")
    assert StreamEvents(store, stream)[1]["eventId"] == second
    assert [store.find(unknown) for unknown in ("", "x", "9", "9" * 56)] == [None] * 4


def test_events_before_a_time_expire(store: LogStore) -> None:
    events = StreamEvents(store, store.new_stream())
    store.append(events.stream, [(number, 0, "xx") for number in range(10)])
    store.expire(events.stream, 7)
    assert [event["timestamp"] for event in events] == [7, 8, 9]
    assert (len(events), store.size(events.stream)) == (3, 6)


def test_only_the_events_of_known_streams_stay(store: LogStore) -> None:
    kept, gone = (StreamEvents(store, store.new_stream()) for _ in range(2))
    for events in (kept, gone):
        store.append(events.stream, [(1, 1, "one")])
    store.keep_only([kept.stream])
    assert (messages(kept), messages(gone)) == (["one"], [])
    assert store.new_stream() not in (kept.stream, gone.stream)


def test_events_outlast_their_process_and_are_for_their_owner_alone(tmp_path: Path) -> None:
    store = LogStore(tmp_path / "logs.db")
    stream = store.new_stream()
    store.append(stream, [(1, 1, "one")])
    assert messages(StreamEvents(LogStore(tmp_path / "logs.db"), stream)) == ["one"]
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_a_saved_state_holds_no_events(store: LogStore) -> None:
    events = StreamEvents(store, store.new_stream())
    store.append(events.stream, [(1, 1, "one")])
    saved: Any = copy.deepcopy({"events": events})
    assert saved == {"events": []}
