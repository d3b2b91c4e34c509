"""Every store: who leads, what clients ask and hear, and bytes by content."""

from __future__ import annotations

import hashlib
import threading
import time
from typing import Any

import pytest
from leading_kit import BYTES_MAX, Leading

from mrq.core.store_api import ClientRequest, LeaseView
from mrq.errors import OperatorError, UsageError


def request(number: int = 1, **args: Any) -> ClientRequest:
    return ClientRequest(
        id=f"q{number}", op="cancel", args=args or {"job": "j", "list": [1, None, {"k": b"\xff"}]}
    )


# The lease.


def test_one_holds_the_lease(leading: Leading) -> None:
    one, two = leading.lease(), leading.lease()
    assert one.view() == LeaseView(owner=None, epoch=0, left_s=0.0)
    taken = one.take("a", 0, 30)
    assert (taken.owner, taken.epoch) == ("a", 1)
    assert 29 < taken.left_s <= 30
    refused = two.take("b", 7, 30)
    assert (refused.owner, refused.epoch) == ("a", 1)
    assert 29 < refused.left_s <= 30
    again = one.take("a", 0, 60)  # as when the first answer was lost
    assert (again.owner, again.epoch) == ("a", 1)
    assert 29 < two.view().left_s <= 30


def test_the_holder_alone_renews_and_releases(leading: Leading) -> None:
    lease = leading.lease()
    assert not lease.renew("a", 1, 30)
    epoch = lease.take("a", 0, 1).epoch
    assert lease.renew("a", epoch, 30)
    assert lease.view().left_s > 29
    for owner, other in (("b", epoch), ("a", epoch + 1), ("a", epoch - 1)):
        assert not lease.renew(owner, other, 60)
        lease.release(owner, other)
        assert lease.view().owner == "a"
    lease.release("a", epoch)
    lease.release("a", epoch)
    assert lease.view() == LeaseView(owner=None, epoch=epoch, left_s=0.0)
    assert not lease.renew("a", epoch, 30)


def test_epochs_only_grow(leading: Leading) -> None:
    lease = leading.lease()
    epochs = []
    for above in (0, 0, 17, 3):
        view = lease.take("a", above, 30)
        epochs.append(view.epoch)
        lease.release("a", view.epoch)
    assert epochs == [1, 2, 18, 19]


def test_a_lease_ends_by_itself(leading: Leading) -> None:
    lease = leading.lease()
    assert lease.take("a", 0, 0.05).epoch == 1
    time.sleep(0.1)
    assert not lease.renew("a", 1, 30)
    assert lease.view() == LeaseView(owner=None, epoch=1, left_s=0.0)
    assert lease.take("b", 0, 30).epoch == 2
    assert not lease.renew("a", 1, 30)


# Requests and answers.


def test_requests_come_in_order_and_once(leading: Leading) -> None:
    desk, link = leading.desk(), leading.link()
    assert desk.requests(0) == []
    for number in (1, 2, 1):
        link.send(request(number))
    assert desk.requests(0) == [request(1), request(2)]
    link.send(request(1))
    leading.link().send(request(2))
    assert desk.requests(0) == []
    link.send(request(3, n=2**70))
    assert desk.requests(0) == [request(3, n=2**70)]


def test_the_next_leader_is_given_what_was_not_removed(leading: Leading) -> None:
    desk, link = leading.desk(), leading.link()
    for number in (1, 2, 3):
        link.send(request(number))
    assert len(desk.requests(0)) == 3
    desk.remove("q2")
    desk.remove("q2")
    desk.remove("never asked")
    link.send(request(2))  # asked again, it stays done
    assert leading.desk().requests(0) == [request(1), request(3)]
    assert desk.requests(0) == []


def test_a_desk_waits_for_requests(leading: Leading) -> None:
    desk, link = leading.desk(), leading.link()
    timer = threading.Timer(0.05, link.send, [request()])
    timer.start()
    started = time.monotonic()
    assert desk.requests(5) == [request()]
    assert 0.03 < time.monotonic() - started < 4
    timer.join()


def test_the_first_answer_counts(leading: Leading) -> None:
    desk, link = leading.desk(), leading.link()
    link.send(request())
    assert link.answer("q1", 0) is None
    first = {"job": "j", "notes": ["é"], "data": b"\xff", "size": 2**63, "more": None}
    desk.answer("q1", first)
    desk.answer("q1", {"job": "k"})
    assert link.answer("q1", 0) == first
    assert link.answer("q1", 5) == first  # the client may have lost it
    assert leading.link().answer("q2", 0) is None


def test_a_client_waits_for_its_answer(leading: Leading) -> None:
    desk, link = leading.desk(), leading.link()
    timer = threading.Timer(0.05, desk.answer, ["q1", {"state": "done"}])
    timer.start()
    assert link.answer("q1", 5) == {"state": "done"}
    timer.join()


def test_closing_ends_what_waits(leading: Leading) -> None:
    desk, link = leading.desk(), leading.link()
    found: list[Any] = []

    def ask() -> None:
        try:
            link.answer("q1", 30)
        except OperatorError as exc:
            found.append(exc)

    threads = [
        threading.Thread(target=lambda: found.append(desk.requests(30))),
        threading.Thread(target=ask),
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    started = time.monotonic()
    desk.close()
    link.close()
    for thread in threads:
        thread.join(10)
    assert time.monotonic() - started < 10
    assert [] in found
    assert any(isinstance(each, OperatorError) for each in found)
    with pytest.raises(OperatorError, match="closed"):
        link.send(request())


# News.


def test_news_is_read_from_a_position(leading: Leading) -> None:
    desk, link = leading.desk(), leading.link()
    assert link.news("j", "", 0) == ("", [])
    told = [
        {"type": "note", "text": "a"},
        {"type": "progress", "view": [1, 2]},
        {"type": "progress", "view": [2]},
    ]
    for entry in told:
        desk.tell("j", entry)
    position, news = link.news("j", "", 0)
    assert news == told
    assert link.news("j", position, 0) == (position, [])
    desk.tell("j", {"type": "ended", "state": "done"})
    later, news = link.news("j", position, 5)
    assert news == [{"type": "ended", "state": "done"}]
    assert later != position
    assert link.news("k", "", 0) == ("", [])
    assert leading.link().news("j", "", 0)[1] == [*told, *news]


def test_old_progress_is_dropped_an_end_never(leading: Leading) -> None:
    desk, link = leading.desk(), leading.link()
    desk.tell("j", {"type": "note", "text": "a"})
    desk.tell("j", {"type": "ended", "state": "failed"})
    for number in range(200):
        desk.tell("j", {"type": "progress", "view": number})
    desk.tell("j", {"type": "ended", "state": "done"})
    news = link.news("j", "", 0)[1]
    assert [entry["type"] for entry in news[:2]] == ["note", "ended"]
    views = [entry["view"] for entry in news[2:-1]]
    assert views == list(range(200))[-len(views) :]
    assert 8 <= len(views) < 200
    assert news[-1]["state"] == "done"


def test_a_client_waits_for_news(leading: Leading) -> None:
    desk, link = leading.desk(), leading.link()
    timer = threading.Timer(0.05, desk.tell, ["j", {"type": "note", "text": "x"}])
    timer.start()
    assert link.news("j", "", 5)[1] == [{"type": "note", "text": "x"}]
    timer.join()


# Blobs.


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1, BYTES_MAX])
def test_bytes_come_back_by_their_digest(leading: Leading, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + bytes(range(size % 256))
    blobs = leading.blobs()
    digest = blobs.put(data)
    assert digest == hashlib.sha256(data).hexdigest()
    assert blobs.put(data, keep_s=60) == digest
    assert leading.blobs().get(digest) == data


def test_a_blob_that_is_not_there(leading: Leading) -> None:
    assert leading.blobs().get("0" * 64) is None


def test_a_blob_over_the_limit_is_refused_by_its_size(leading: Leading) -> None:
    with pytest.raises(UsageError, match=r"2,097,160 bytes .* 2,097,159 .*blob_bytes_max"):
        leading.blobs().put(bytes(BYTES_MAX + 1))


def test_a_blob_is_kept_as_long_as_anybody_wants(leading: Leading) -> None:
    blobs = leading.blobs()
    short, long, ever = (blobs.put(name, keep_s=0.5) for name in (b"short", b"long", b"ever"))
    blobs.put(b"long", keep_s=60)
    blobs.put(b"long", keep_s=0.5)
    blobs.put(b"ever")
    blobs.put(b"ever", keep_s=0.5)
    assert blobs.get(short) == b"short"
    time.sleep(0.6)
    assert blobs.get(short) is None
    assert blobs.get(long) == b"long"
    assert blobs.get(ever) == b"ever"
    assert blobs.put(b"short") == short
    assert blobs.get(short) == b"short"
