"""Cluster, Maintenance and health: what an operator asks."""

from store_client import health, rpc
from surface_tools import get, put, txn

# Of these only the presence counts: they depend on the build, on files, or on how often a term changed.
STATUS = ["version", "dbSize", "dbSizeInUse", "leader", "raftIndex", "raftTerm", "raftAppliedIndex"]
MEMBER = ["ID", "name", "peerURLs", "clientURLs"]


def maintenance(surface):
    call = lambda name, method, request, mask=(): surface.call(name, f"maintenance.{method}", request, mask)
    surface.quiet("kv.Put", put(b"a", b"1"))
    call("status", "Status", rpc.StatusRequest(), STATUS)
    call("defragment", "Defragment", rpc.DefragmentRequest())
    call("hash", "Hash", rpc.HashRequest(), ["hash"])
    call("hash of the keys", "HashKV", rpc.HashKVRequest(), ["hash"])
    call("hash at a revision", "HashKV", rpc.HashKVRequest(revision=2), ["hash"])
    call("hash of the future", "HashKV", rpc.HashKVRequest(revision=99), ["hash"])
    surface.quiet("kv.Put", put(b"a", b"2"))
    surface.quiet("kv.Put", put(b"a", b"3"))
    surface.quiet("kv.Compact", rpc.CompactionRequest(revision=3, physical=True))
    call("hash after a compaction", "HashKV", rpc.HashKVRequest(), ["hash"])
    call("hash at the compaction", "HashKV", rpc.HashKVRequest(revision=3), ["hash"])
    call("hash before the compaction", "HashKV", rpc.HashKVRequest(revision=2), ["hash"])
    call("move leader to nobody", "MoveLeader", rpc.MoveLeaderRequest(targetID=12345))
    for action in [0, 1, 2]:
        for version in ["", "3", "3.4", "3.4.0", "3.5.0", "3.9.0", "nonsense", "3.4.x", "v3.4"]:
            call(f"downgrade {action} to '{version}'", "Downgrade", rpc.DowngradeRequest(
                action=action, version=version))
    parts = list(surface.client.maintenance.Snapshot(rpc.SnapshotRequest(), timeout=30))
    # How many bytes are left, as told with each part, is what comes behind it.
    sizes = [len(part.blob) for part in parts]
    left = [sum(sizes[index + 1:]) for index in range(len(parts))]
    surface.emit("snapshot", {
        "rest of the last": parts[-1].remaining_bytes, "the checksum": sizes[-1],
        "tells what is left": [part.remaining_bytes for part in parts[:-1]] == left[:-1]})
    for service in ["", "etcdserverpb.KV", "nothing"]:
        surface.call(f"health of '{service}'", "health.Check", health.HealthCheckRequest(service=service))
        stream = surface.client.health.Watch(health.HealthCheckRequest(service=service))
        surface.stream(f"health of '{service}' watched", stream, 1)
        stream.cancel()


def alarms(surface):
    A = rpc.AlarmRequest
    call = lambda name, **more: surface.call(name, "maintenance.Alarm", A(**more), ["memberID"])
    call("none")
    call("of a kind", alarm=rpc.NOSPACE)
    call("raise none", action=A.ACTIVATE)
    call("lower none", action=A.DEACTIVATE)
    call("lower one that isn't", action=A.DEACTIVATE, alarm=rpc.NOSPACE)
    surface.quiet("lease.LeaseGrant", rpc.LeaseGrantRequest(TTL=600, ID=3))
    for kind in [rpc.NOSPACE, rpc.CORRUPT]:
        call(f"raise {kind}", action=A.ACTIVATE, alarm=kind, memberID=9)
        call(f"raise {kind} again", action=A.ACTIVATE, alarm=kind, memberID=9)
        call(f"all with {kind}")
        call(f"of another kind than {kind}", alarm=3 - kind)
        surface.call(f"put with {kind}", "kv.Put", put(b"a", b"1"))
        surface.call(f"read with {kind}", "kv.Range", get(b"a"))
        surface.call(f"read serializably with {kind}", "kv.Range", get(b"a", serializable=True))
        surface.call(f"delete with {kind}", "kv.DeleteRange", rpc.DeleteRangeRequest(key=b"a"))
        surface.call(f"write in a transaction with {kind}", "kv.Txn", txn(success=[put(b"a")]))
        surface.call(f"delete in a transaction with {kind}", "kv.Txn", txn(
            success=[rpc.DeleteRangeRequest(key=b"a")]))
        surface.call(f"read in a transaction with {kind}", "kv.Txn", txn(success=[get(b"a")]))
        surface.call(f"write in the other branch with {kind}", "kv.Txn", txn(
            success=[get(b"a")], failure=[put(b"a")]))
        surface.call(f"grant with {kind}", "lease.LeaseGrant", rpc.LeaseGrantRequest(TTL=100, ID=100 + kind))
        surface.call(f"time with {kind}", "lease.LeaseTimeToLive", rpc.LeaseTimeToLiveRequest(ID=3), ["TTL"])
        surface.call(f"compact with {kind}", "kv.Compact", rpc.CompactionRequest(revision=1))
        surface.call(f"status with {kind}", "maintenance.Status", rpc.StatusRequest(), STATUS + ["errors"])
        surface.call(f"members with {kind}", "cluster.MemberList", rpc.MemberListRequest(), MEMBER)
        call(f"lower {kind} of another", action=A.DEACTIVATE, alarm=kind, memberID=8)
        call(f"lower {kind}", action=A.DEACTIVATE, alarm=kind, memberID=9)
        surface.call(f"put without {kind}", "kv.Put", put(b"a", b"1"))
    call("none again")


def cluster(surface):
    call = lambda name, method, request, mask=MEMBER: surface.call(name, f"cluster.{method}", request, mask)
    call("members", "MemberList", rpc.MemberListRequest())
    call("members, linearizable", "MemberList", rpc.MemberListRequest(linearizable=True))
    own = surface.quiet("cluster.MemberList", rpc.MemberListRequest()).members[0]
    for urls in [[], [""], ["127.0.0.1:1"], ["http://127.0.0.1"], ["http://127.0.0.1:x"], ["ftp://127.0.0.1:1"],
                 ["http://127.0.0.1:1/path"], ["http://127.0.0.1:1", "nonsense"]]:
        call(f"add {urls}", "MemberAdd", rpc.MemberAddRequest(peerURLs=urls, isLearner=True),
             mask=["member", "members"])
    call("add its own address", "MemberAdd", rpc.MemberAddRequest(peerURLs=list(own.peerURLs), isLearner=True))
    call("remove nobody", "MemberRemove", rpc.MemberRemoveRequest(ID=12345))
    call("update nobody", "MemberUpdate", rpc.MemberUpdateRequest(ID=12345, peerURLs=["http://127.0.0.1:1"]))
    call("update without an address", "MemberUpdate", rpc.MemberUpdateRequest(ID=own.ID))
    call("promote nobody", "MemberPromote", rpc.MemberPromoteRequest(ID=12345))
    call("promote a voter", "MemberPromote", rpc.MemberPromoteRequest(ID=own.ID))
    learner = call("a learner", "MemberAdd", rpc.MemberAddRequest(peerURLs=[surface.peer_url], isLearner=True))
    call("the same again", "MemberAdd", rpc.MemberAddRequest(peerURLs=[surface.peer_url], isLearner=True))
    call("another learner", "MemberAdd", rpc.MemberAddRequest(peerURLs=["http://127.0.0.1:2"], isLearner=True))
    call("promote one that never started", "MemberPromote", rpc.MemberPromoteRequest(ID=learner.member.ID))
    call("update it", "MemberUpdate", rpc.MemberUpdateRequest(ID=learner.member.ID, peerURLs=["http://127.0.0.1:3"]))
    call("update it to another's", "MemberUpdate", rpc.MemberUpdateRequest(
        ID=learner.member.ID, peerURLs=list(own.peerURLs)))
    call("members with it", "MemberList", rpc.MemberListRequest())
    call("remove it", "MemberRemove", rpc.MemberRemoveRequest(ID=learner.member.ID))
    call("remove it again", "MemberRemove", rpc.MemberRemoveRequest(ID=learner.member.ID))
    call("remove the only one", "MemberRemove", rpc.MemberRemoveRequest(ID=own.ID))


SECTIONS = {"maintenance": maintenance, "alarms": alarms, "cluster": cluster}
