"""The lock and election services."""

from store_client import election, grpc, lock, rpc
from surface_tools import get, put, shown


def grant(surface, *leases):
    for lease in leases:
        surface.quiet("lease.LeaseGrant", rpc.LeaseGrantRequest(TTL=600, ID=lease))


def later(surface, service, method, request):
    """Begins a call that has to wait."""
    return getattr(getattr(surface.client, service), method).future(request, timeout=30)


def outcome(surface, name, call, mask=()):
    try:
        surface.emit(name, shown(call.result(timeout=20), mask))
    except grpc.RpcError as error:
        surface.emit(name, {"code": error.code().name, "details": error.details()})
    except grpc.FutureTimeoutError:
        surface.emit(name, "still waits")


def keys(surface, prefix):
    end = prefix[:-1] + bytes([prefix[-1] + 1])
    return [kv.key for kv in surface.quiet("kv.Range", get(prefix, end)).kvs]


def locks(surface):
    grant(surface, 0x11, 0x22, 0x33, 0x44)
    take = lambda name, key, lease, mask=(): surface.call(
        name, "lock.Lock", lock.LockRequest(name=key, lease=lease), mask)
    take("free", b"l", 0x11)
    take("held by the same lease", b"l", 0x11)
    take("another lock", b"m", 0x11)
    take("an unknown lease", b"l", 0x99)
    take("without a name", b"", 0x11)
    take("with a lease of its own", b"own", 0, ["key"])
    surface.call("what holds it", "kv.Range", get(b"l/", b"l0"))
    second = later(surface, "lock", "Lock", lock.LockRequest(name=b"l", lease=0x22))
    surface.wait_until(lambda: len(keys(surface, b"l/")) == 2)
    third = later(surface, "lock", "Lock", lock.LockRequest(name=b"l", lease=0x33))
    surface.wait_until(lambda: len(keys(surface, b"l/")) == 3)
    surface.call("the line", "kv.Range", get(b"l/", b"l0"))
    surface.emit("both wait", [second.done(), third.done()])
    surface.call("unlock", "lock.Unlock", lock.UnlockRequest(key=b"l/11"))
    outcome(surface, "the second has it", second)
    surface.emit("the third waits", third.done())
    surface.call("unlock again", "lock.Unlock", lock.UnlockRequest(key=b"l/11"))
    surface.call("unlock nothing", "lock.Unlock", lock.UnlockRequest())
    fourth = later(surface, "lock", "Lock", lock.LockRequest(name=b"l", lease=0x44))
    surface.wait_until(lambda: len(keys(surface, b"l/")) == 3)
    surface.quiet("lease.LeaseRevoke", rpc.LeaseRevokeRequest(ID=0x22))
    outcome(surface, "the third has it when the second's lease ends", third)
    fourth.cancel()
    surface.wait_until(lambda: len(keys(surface, b"l/")) == 1)
    surface.call("one that gave up leaves the line", "kv.Range", get(b"l/", b"l0"))
    try:
        surface.client.lock.Lock(lock.LockRequest(name=b"l", lease=0x44), timeout=0.5)
    except grpc.RpcError:
        # Whether server or client notice first decides the code.
        surface.emit("one whose time ran out", "an error")
    surface.wait_until(lambda: len(keys(surface, b"l/")) == 1)
    surface.call("it left too", "kv.Range", get(b"l/", b"l0"))
    # A key that a client put by itself stands in the same line.
    surface.quiet("kv.Put", put(b"n/client", b"", lease=0x33))
    behind = later(surface, "lock", "Lock", lock.LockRequest(name=b"n", lease=0x44))
    surface.wait_until(lambda: len(keys(surface, b"n/")) == 2)
    surface.emit("waits behind a client's own key", behind.done())
    surface.quiet("kv.DeleteRange", rpc.DeleteRangeRequest(key=b"n/client"))
    outcome(surface, "has it when that is gone", behind)
    behind = later(surface, "lock", "Lock", lock.LockRequest(name=b"n", lease=0x33))
    surface.wait_until(lambda: len(keys(surface, b"n/")) == 2)
    surface.quiet("lease.LeaseRevoke", rpc.LeaseRevokeRequest(ID=0x33))
    surface.quiet("lock.Unlock", lock.UnlockRequest(key=b"n/44"))
    outcome(surface, "its lease ended while it waited", behind)


def elections(surface):
    grant(surface, 0x11, 0x22, 0x33)
    call = lambda name, method, request, mask=(): surface.call(name, f"election.{method}", request, mask)
    call("nobody leads", "Leader", election.LeaderRequest(name=b"e"))
    observer = surface.clients[0].election.Observe(election.LeaderRequest(name=b"e"))
    answer = call("the first", "Campaign", election.CampaignRequest(name=b"e", lease=0x11, value=b"one"))
    surface.stream("observed first", observer, 1)
    call("leads", "Leader", election.LeaderRequest(name=b"e"))
    call("again, saying the same", "Campaign", election.CampaignRequest(name=b"e", lease=0x11, value=b"one"))
    call("again, saying another", "Campaign", election.CampaignRequest(name=b"e", lease=0x11, value=b"uno"))
    surface.stream("observed again", observer, 1)
    call("proclaim", "Proclaim", election.ProclaimRequest(leader=answer.leader, value=b"eins"))
    surface.stream("observed proclaimed", observer, 1)
    second = later(surface, "election", "Campaign", election.CampaignRequest(name=b"e", lease=0x22, value=b"two"))
    surface.wait_until(lambda: len(keys(surface, b"e/")) == 2)
    third = later(surface, "election", "Campaign", election.CampaignRequest(name=b"e", lease=0x33, value=b"three"))
    surface.wait_until(lambda: len(keys(surface, b"e/")) == 3)
    surface.emit("both wait", [second.done(), third.done()])
    call("still leads", "Leader", election.LeaderRequest(name=b"e"))
    call("resign", "Resign", election.ResignRequest(leader=answer.leader))
    outcome(surface, "the second leads", second)
    surface.stream("observed the second", observer, 1)
    call("resign again", "Resign", election.ResignRequest(leader=answer.leader))
    call("proclaim without leading", "Proclaim", election.ProclaimRequest(leader=answer.leader, value=b"x"))
    surface.quiet("lease.LeaseRevoke", rpc.LeaseRevokeRequest(ID=0x22))
    outcome(surface, "the third leads when the second's lease ends", third)
    surface.stream("observed the third", observer, 1)
    observer.cancel()
    late = surface.client.election.Observe(election.LeaderRequest(name=b"e"))
    surface.stream("observed by one who came late", late, 1)
    late.cancel()
    call("no leader to proclaim", "Proclaim", election.ProclaimRequest(value=b"x"))
    call("no leader to resign", "Resign", election.ResignRequest())
    call("an unknown lease", "Campaign", election.CampaignRequest(name=b"e", lease=0x99, value=b"x"))
    call("without a name", "Campaign", election.CampaignRequest(lease=0x11, value=b"x"))
    call("a lease of its own", "Campaign", election.CampaignRequest(name=b"own", value=b"x"), ["key", "lease"])
    waiter = later(surface, "election", "Campaign", election.CampaignRequest(name=b"e", lease=0x11, value=b"four"))
    surface.wait_until(lambda: len(keys(surface, b"e/")) == 2)
    waiter.cancel()
    surface.wait_until(lambda: len(keys(surface, b"e/")) == 1)
    surface.call("one that gave up leaves the line", "kv.Range", get(b"e/", b"e0"))


SECTIONS = {"locks": locks, "elections": elections}
