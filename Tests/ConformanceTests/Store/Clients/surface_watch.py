"""Watch: starts, filters, ids, fragments, progress, cancelling."""

from store_client import Stream, grpc, rpc
from surface_tools import delete, put, shown, txn

W = rpc.WatchCreateRequest


class Watches:
    """One watch stream. Answers of several watches may come in any order, so they are shown by watch."""

    def __init__(self, surface, name, metadata=None):
        self.surface, self.name, self.count = surface, name, 0
        self.stream = Stream(surface.client.watch.Watch, metadata=metadata)

    def create(self, key, range_end=b"", **more):
        self.stream.send(rpc.WatchRequest(create_request=W(key=key, range_end=range_end, **more)))

    def cancel(self, watch_id):
        self.stream.send(rpc.WatchRequest(cancel_request=rpc.WatchCancelRequest(watch_id=watch_id)))

    def progress(self):
        self.stream.send(rpc.WatchRequest(progress_request=rpc.WatchProgressRequest()))

    def receive(self, title, count=1, mask=()):
        answers = []
        for _ in range(count):
            try:
                answers.append(self.stream.receive())
            except grpc.RpcError as error:
                self.surface.emit(f"{title}", {"code": error.code().name, "details": error.details()})
                return []
        answers.sort(key=lambda answer: answer.watch_id)
        for index, answer in enumerate(answers):
            self.surface.emit(f"{title} {index}", shown(answer, mask))
        return answers

    def close(self):
        self.stream.close()


def creation(surface):
    surface.quiet("kv.Put", put(b"a", b"1"))
    w = Watches(surface, "ids")
    for title, arguments, more in [
            ("the first", (b"a",), {}), ("a range", (b"a", b"c"), {}), ("chosen", (b"a",), {"watch_id": 7}),
            ("chosen again", (b"a",), {"watch_id": 7}), ("the next", (b"a",), {}),
            ("negative", (b"a",), {"watch_id": -5}), ("no key", (b"",), {}), ("no key to z", (b"", b"z"), {}),
            ("no key, no end", (b"", b"\x00"), {}), ("backwards", (b"z", b"a"), {}),
            ("to itself", (b"a", b"a"), {}), ("from the future", (b"a",), {"start_revision": 50}),
            ("from before everything", (b"zz",), {"start_revision": 1}),
            ("unknown filter", (b"a",), {"filters": [0, 1]})]:
        w.create(*arguments, **more)
        w.receive(title)
    for watch_id in [7, 0]:
        w.cancel(watch_id)
        w.receive(f"cancel {watch_id}")
    w.cancel(99)
    w.create(b"a", watch_id=7)
    w.receive("chosen after it was cancelled")
    w.close()


def filters(surface):
    w = Watches(surface, "filters")
    for watch_id, (key, end, more) in enumerate([
            (b"k", b"", {}), (b"k", b"l", {"prev_kv": True}), (b"k", b"", {"filters": [W.NOPUT]}),
            (b"k", b"", {"filters": [W.NODELETE]}), (b"j", b"\x00", {}), (b"\x00", b"\x00", {"prev_kv": True}),
            (b"k", b"", {"filters": [W.NOPUT, W.NODELETE]})], start=1):
        w.create(key, end, watch_id=watch_id, **more)
        w.receive(f"created {watch_id}")
    surface.quiet("kv.Put", put(b"k", b"1"))
    w.receive("put", 5)
    surface.quiet("kv.Put", put(b"k", b"2"))
    w.receive("put again", 5)
    surface.quiet("kv.DeleteRange", delete(b"k"))
    w.receive("deleted", 5)
    surface.quiet("kv.DeleteRange", delete(b"k"))
    surface.quiet("kv.Put", put(b"a", b"1"))
    w.receive("another key", 1)
    surface.quiet("kv.Txn", txn(success=[put(b"k", b"3"), put(b"k1", b"4"), delete(b"a")]))
    w.receive("a transaction", 5)
    surface.quiet("kv.DeleteRange", delete(b"k", b"l"))
    w.receive("a range deleted", 5)
    w.close()


def past(surface):
    for index in range(6):
        surface.quiet("kv.Put", put(b"k%d" % (index % 2), b"%d" % index))
    surface.quiet("kv.DeleteRange", delete(b"k0"))
    surface.quiet("kv.Txn", txn(success=[put(b"k0", b"a"), put(b"k1", b"b")]))
    w = Watches(surface, "past")
    for start in [1, 2, 5, 8, 9]:
        w.create(b"k", b"l", start_revision=start, prev_kv=True)
        w.receive(f"from {start}", 2)
        w.create(b"k0", start_revision=start, filters=[W.NOPUT])
        w.receive(f"deletes from {start}", 2 if start <= 8 else 1)
    w.close()
    surface.quiet("kv.Compact", rpc.CompactionRequest(revision=6))
    for start in [1, 5, 6]:
        w = Watches(surface, "compacted")
        w.create(b"k", b"l", start_revision=start, prev_kv=True)
        w.receive(f"from {start} after the compaction", 2)
        w.close()
    w = Watches(surface, "negative")
    w.create(b"k", start_revision=-1)
    w.receive("from a negative revision")
    w.close()


def future(surface):
    w = Watches(surface, "future")
    w.create(b"k", start_revision=4)
    w.receive("created")
    for index in range(4):
        surface.quiet("kv.Put", put(b"k", b"%d" % index))
    w.receive("the third put", 1)
    w.receive("the fourth put", 1)
    w.close()


def progress(surface):
    w = Watches(surface, "progress")
    w.progress()
    w.receive("without watches")
    w.create(b"k")
    w.receive("created")
    w.progress()
    w.receive("with one")
    surface.quiet("kv.Put", put(b"other"))
    w.progress()
    w.receive("after a put of another key")
    surface.quiet("kv.Put", put(b"k"))
    w.receive("a put")
    w.progress()
    w.receive("after it")
    w.close()


def fragments(surface):
    """Events that together are larger than a response may be."""
    value = b"x" * (400 << 10)
    for name, more in [("whole", {}), ("in fragments", {"fragment": True})]:
        w = Watches(surface, name)
        w.create(b"k", b"l", **more)
        w.receive(f"{name}: created")
        # Each put is below the limit of a request; what they are deleted with is not.
        for index in range(6):
            surface.quiet("kv.Put", put(b"k%d" % index, value))
            w.stream.receive()
        w.close()
        w = Watches(surface, name)
        w.create(b"k", b"l", prev_kv=True, **more)
        w.receive(f"{name}: created again")
        surface.quiet("kv.DeleteRange", delete(b"k", b"l"))
        keys, parts = [], 0
        while True:
            answer = w.stream.receive()
            keys += [event.kv.key.decode() for event in answer.events]
            parts += 1
            if not answer.fragment:
                break
        surface.emit(f"{name}: deleted", {"keys": keys, "is one": parts == 1})
        w.close()


def half_closed(surface):
    """A client that has nothing more to say goes on listening."""
    call = surface.client.watch.Watch(iter([rpc.WatchRequest(create_request=W(key=b"a"))]))
    surface.stream("half closed", call, 1)
    surface.quiet("kv.Put", put(b"a", b"1"))
    surface.stream("half closed, an event", call, 1)
    call.cancel()
    call = surface.client.watch.Watch(iter([
        rpc.WatchRequest(), rpc.WatchRequest(create_request=W(key=b"a"))]))
    surface.stream("an empty request first", call, 1)
    call.cancel()
    w = Watches(surface, "leader", metadata=[("hasleader", "true")])
    w.create(b"a")
    w.receive("with a leader")
    w.close()


SECTIONS = {f"watch-{f.__name__.replace('_', '-')}": f for f in [
    creation, filters, past, future, progress, fragments, half_closed]}
