"""Lease: granting, renewing, asking, revoking, expiry."""

from store_client import Stream, rpc
from surface_tools import get, put, shown
from surface_watch import Watches


def leases(surface):
    grant = lambda name, ttl, identifier=0, mask=(): surface.call(
        name, "lease.LeaseGrant", rpc.LeaseGrantRequest(TTL=ttl, ID=identifier), mask)
    grant("chosen", 100, 10)
    grant("again", 100, 10)
    grant("not chosen", 100, mask=["ID"])
    grant("no time", 0, 11)
    grant("negative time", -5, 12)
    grant("short", 1, 13)
    grant("the longest", 9_000_000_000, 14)
    grant("too long", 9_000_000_001, 15)
    grant("negative id", 100, -16)
    for key, lease in [(b"a", 10), (b"b", 10), (b"c", 14)]:
        surface.call(f"attach {key}", "kv.Put", put(key, b"1", lease=lease))

    def ask(name, identifier, keys=True):
        answer = surface.quiet(
            "lease.LeaseTimeToLive", rpc.LeaseTimeToLiveRequest(ID=identifier, keys=keys))
        # etcd tells the keys in any order.
        answer.keys.sort()
        surface.emit(name, shown(answer, ["TTL"]))

    ask("keys", 10)
    ask("no keys", 10, False)
    surface.call("unknown", "lease.LeaseTimeToLive", rpc.LeaseTimeToLiveRequest(ID=999, keys=True))
    surface.call("zero", "lease.LeaseTimeToLive", rpc.LeaseTimeToLiveRequest(ID=0, keys=True))
    surface.quiet("kv.Put", put(b"a", b"2", lease=14))
    surface.quiet("kv.Put", put(b"b", b"2"))
    ask("moved and detached", 10)
    ask("moved to", 14)
    surface.quiet("kv.DeleteRange", rpc.DeleteRangeRequest(key=b"c"))
    ask("a key deleted", 14)
    found = surface.quiet("lease.LeaseLeases", rpc.LeaseLeasesRequest()).leases
    surface.emit("some leases", sorted(lease.ID for lease in found if lease.ID in [10, 14, -16, 15]))
    stream = Stream(surface.client.lease.LeaseKeepAlive)
    for identifier in [10, 999, 0, -1, 14, 10]:
        stream.send(rpc.LeaseKeepAliveRequest(ID=identifier))
        surface.emit(f"kept alive {identifier}", shown(stream.receive()))
    stream.close()
    call = surface.client.lease.LeaseKeepAlive(iter([rpc.LeaseKeepAliveRequest(ID=10)]))
    surface.stream("kept alive, half closed", call, 2)
    revoke = lambda name, identifier: surface.call(
        name, "lease.LeaseRevoke", rpc.LeaseRevokeRequest(ID=identifier))
    revoke("revoke", 10)
    revoke("revoke again", 10)
    revoke("revoke zero", 0)
    revoke("revoke with a key", 14)
    surface.call("the keys", "kv.Range", get(b"\x00", b"\x00"))
    surface.call("put with a revoked lease", "kv.Put", put(b"a", lease=14))


def expiry(surface):
    surface.quiet("lease.LeaseGrant", rpc.LeaseGrantRequest(TTL=1, ID=5))
    w = Watches(surface, "expiry")
    w.create(b"\x00", b"\x00", prev_kv=True)
    w.receive("created")
    surface.quiet("kv.Put", put(b"b", b"2", lease=5))
    w.receive("put b")
    surface.quiet("kv.Put", put(b"a", b"1", lease=5))
    w.receive("put a")
    w.receive("expired")
    surface.call("its time", "lease.LeaseTimeToLive", rpc.LeaseTimeToLiveRequest(ID=5, keys=True))
    stream = Stream(surface.client.lease.LeaseKeepAlive)
    stream.send(rpc.LeaseKeepAliveRequest(ID=5))
    surface.emit("renewed too late", shown(stream.receive()))
    stream.close()
    w.close()


SECTIONS = {"leases": leases, "lease-expiry": expiry}
