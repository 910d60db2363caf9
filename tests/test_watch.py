"""What a long run tells, shows, and how it stops."""

import json
import queue
import threading
from typing import Any

import pytest

from netloupe.core.errors import Cancelled, NetloupeError
from netloupe.core.watch import SILENT, Part, Watch
from watch_helpers import Recorder


def test_a_part_tells_where_it_starts_and_each_step() -> None:
    watch = Recorder()
    part = watch.part("images", 10)
    part.advance()
    part.advance(4, note="loss 0.5")
    part.at(10)
    assert watch.told == [("images", 0, 10), ("images", 1, 10), ("images", 5, 10), ("images", 10, 10)]
    assert watch.notes == ["", "", "loss 0.5", ""]
    assert (part.name, part.done, part.total) == ("images", 10, 10)


def test_a_part_taken_up_again_starts_where_the_earlier_run_stopped() -> None:
    watch = Recorder()
    watch.part("steps", 8, 5).advance()
    assert watch.told == [("steps", 5, 8), ("steps", 6, 8)]


def test_each_step_of_a_loop_is_told_after_its_body() -> None:
    watch = Recorder()
    before = [(name, len(watch.told)) for name in watch.each("layers", ["conv1", "conv2"])]
    assert before == [("conv1", 1), ("conv2", 2)]
    assert watch.told == [("layers", 0, 2), ("layers", 1, 2), ("layers", 2, 2)]


def climb(watch: Watch, steps: int) -> None:
    part = watch.part("steps", steps)
    for _ in range(steps):
        part.advance(note="n")
        watch.picture("image", "as it forms")


def test_a_run_of_runs_is_one_part() -> None:
    watch = Recorder()
    whole = watch.part("stages", 20)
    for _ in range(2):
        climb(whole.share(10), steps=2)
    assert watch.told == [("stages", done, 20) for done in (0, 5, 10, 15, 20)]
    assert whole.done == 20
    assert watch.notes[1] == "n"


def test_shares_of_shares_and_of_nothing_to_do_fill_their_part() -> None:
    watch = Recorder()
    whole = watch.part("stages", 10)
    inner = whole.share(10).part("rounds", 2)
    climb(inner.share(1), steps=4)
    climb(inner.share(1), steps=0)
    assert {name for name, _, _ in watch.told} == {"stages"}
    assert watch.steps("stages")[-1] == whole.done == 10


def test_a_named_watch_hears_of_its_parts_under_that_name() -> None:
    watch = Recorder(pictures=True)
    climb(watch.named("photographs"), steps=1)
    climb(watch.named("photographs").part("ignored", 3).share(3), steps=1)
    assert {name for name, _, _ in watch.told} == {"photographs"}
    assert watch.shown == [("image", "as it forms")] * 2


def test_only_a_watch_that_wants_pictures_sees_them() -> None:
    blind, seeing = Recorder(), Recorder(pictures=True)
    for watch in (blind, seeing):
        climb(watch.part("stages", 1).share(1), steps=3)
    assert not blind.shown
    assert len(seeing.shown) == 3
    assert not blind.named("x").pictures
    assert seeing.named("x").pictures


def test_cancelling_stops_what_runs_and_all_that_follows() -> None:
    watch = Watch()
    part = watch.part("images", 3)
    part.advance()
    watch.cancel()
    for act in (part.advance, watch.check, lambda: watch.part("more", 1), lambda: list(watch.each("items", [1]))):
        with pytest.raises(Cancelled):
            act()


@pytest.mark.parametrize("derive", [lambda watch: watch.named("x"), lambda watch: watch.part("x", 2).share(2)])
def test_cancelling_reaches_through_what_is_derived(derive: Any) -> None:
    outer, inner = Watch(), Watch()
    below = derive(outer)
    outer.cancel()
    with pytest.raises(Cancelled):
        climb(below, steps=2)
    derive(inner).cancel()
    with pytest.raises(Cancelled):
        inner.check()


def test_another_thread_cancels() -> None:
    watch = Watch()
    started, stopped = threading.Event(), threading.Event()

    def run() -> None:
        part = watch.part("steps", 10**9)
        try:
            while True:
                part.advance()
                started.set()
        except Cancelled:
            stopped.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert started.wait(10)
    watch.cancel()
    assert stopped.wait(10)
    thread.join(10)


def test_the_silent_watch_is_nobodys_to_cancel() -> None:
    for watch in (SILENT, SILENT.named("x"), Part(SILENT, "x", 1).share(1)):
        with pytest.raises(RuntimeError, match="make a Watch"):
            watch.cancel()
    climb(SILENT, steps=3)


def test_cancelled_is_no_mistake_of_the_users() -> None:
    assert not issubclass(Cancelled, NetloupeError)


def test_a_server_streams_what_its_watch_hears() -> None:
    class Stream(Watch):
        """Events as lines of JSON, for whoever reads them."""

        def __init__(self) -> None:
            self.events: queue.Queue[str] = queue.Queue()

        def tell(self, name: str, done: int, total: int, note: str) -> None:
            self.events.put(json.dumps({"part": name, "done": done, "total": total, "note": note}))

    watch = Stream()
    thread = threading.Thread(target=climb, args=(watch, 2))
    thread.start()
    found = [json.loads(watch.events.get(timeout=10)) for _ in range(3)]
    thread.join(10)
    assert [event["done"] for event in found] == [0, 1, 2]
    assert found[1] == {"part": "steps", "done": 1, "total": 2, "note": "n"}
