"""Calls the store's API with Python's grpcio and prints what it answers: api.py ENDPOINT SECTION."""

import sys
import threading

from store_client import Client, Stream, grpc, health, kv, rpc, show, text

client = Client(sys.argv[1])
MEBIBYTE = 1 << 20


def put(key, value=b"", **more):
    return client.kv.Put(rpc.PutRequest(key=key, value=value, **more), timeout=10)


def put_op(key, value=b"", **more):
    return rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=value, **more))


def range_op(key, **more):
    return rpc.RequestOp(request_range=rpc.RangeRequest(key=key, **more))


def delete_op(key, **more):
    return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key, **more))


def txn_op(**more):
    return rpc.RequestOp(request_txn=rpc.TxnRequest(**more))


def raw(path):
    """A call of bytes as they are."""
    return client.channel.unary_unary(
        path, request_serializer=lambda data: data,
        response_deserializer=rpc.PutResponse.FromString)


def keys():
    """Ranges with options that etcdctl doesn't have; keys of any bytes."""
    for index, key in enumerate([b"a", b"b", b"\x00", b"\xff\xff", b"b/1", b"b/2", b"a"]):
        put(key, b"v%d" % (9 - index))

    def get(title, key, range_end=b"", **more):
        show(title, client.kv.Range, rpc.RangeRequest(key=key, range_end=range_end, **more))

    get("one", b"a")
    get("absent", b"nothing")
    get("all", b"\x00", b"\x00")
    get("from b", b"b", b"\x00", keys_only=True)
    get("range", b"a", b"b/2", limit=2)
    get("empty range", b"b", b"a")
    get("range to itself", b"b", b"b")
    get("count", b"\x00", b"\x00", count_only=True)
    get("count with a limit", b"\x00", b"\x00", count_only=True, limit=1)
    get("negative limit", b"\x00", b"\x00", limit=-1, keys_only=True)
    get("serializable", b"b", serializable=True)
    get("modified from 4", b"\x00", b"\x00", min_mod_revision=4, keys_only=True)
    get("modified to 4", b"\x00", b"\x00", max_mod_revision=4, keys_only=True)
    get("created 3 to 5", b"\x00", b"\x00", min_create_revision=3, max_create_revision=5,
        keys_only=True)
    get("filtered with a limit", b"\x00", b"\x00", min_mod_revision=4, limit=2, keys_only=True)
    get("at revision 4", b"\x00", b"\x00", revision=4, keys_only=True)
    get("at revision 1", b"\x00", b"\x00", revision=1)
    get("negative revision", b"a", revision=-1)
    get("sorted with a limit", b"\x00", b"\x00", sort_order=rpc.RangeRequest.DESCEND,
        sort_target=rpc.RangeRequest.MOD, limit=3, keys_only=True)
    get("a target without an order", b"\x00", b"\x00", sort_target=rpc.RangeRequest.VALUE, limit=2)
    get("by version", b"a", b"c", sort_order=rpc.RangeRequest.DESCEND,
        sort_target=rpc.RangeRequest.VERSION, keys_only=True)

    def delete(title, key, range_end=b"", **more):
        show(title, client.kv.DeleteRange,
             rpc.DeleteRangeRequest(key=key, range_end=range_end, **more))

    delete("delete a range", b"b", b"b/2", prev_kv=True)
    delete("delete nothing", b"b", b"b/2", prev_kv=True)
    delete("delete from a", b"a", b"\x00")
    get("left", b"\x00", b"\x00")
    show("compact", client.kv.Compact, rpc.CompactionRequest(revision=9))
    get("before the compaction", b"a", revision=8)


def transactions():
    """Compares of every kind, nested transactions, order of effects, bounds."""
    put(b"k", b"5")
    put(b"k", b"6")
    put(b"l", b"7")

    def txn(title, compare=(), success=(), failure=()):
        return show(title, client.kv.Txn,
                    rpc.TxnRequest(compare=compare, success=success, failure=failure))

    c = rpc.Compare
    holds = {
        "value": c(result=c.EQUAL, target=c.VALUE, key=b"k", value=b"6"),
        "value not": c(result=c.NOT_EQUAL, target=c.VALUE, key=b"k", value=b"5"),
        "value greater": c(result=c.GREATER, target=c.VALUE, key=b"k", value=b"5"),
        "value of an absent key": c(result=c.EQUAL, target=c.VALUE, key=b"no", value=b""),
        "version": c(result=c.LESS, target=c.VERSION, key=b"k", version=3),
        "version of an absent key": c(result=c.EQUAL, target=c.VERSION, key=b"no", version=0),
        "created": c(result=c.EQUAL, target=c.CREATE, key=b"k", create_revision=2),
        "modified": c(result=c.EQUAL, target=c.MOD, key=b"k", mod_revision=3),
        "lease": c(result=c.EQUAL, target=c.LEASE, key=b"k", lease=0),
        "all of a range": c(result=c.GREATER, target=c.VALUE, key=b"k", range_end=b"m", value=b"5"),
        "not all of a range": c(result=c.GREATER, target=c.VALUE, key=b"k", range_end=b"m", value=b"6"),
        "an empty range": c(result=c.EQUAL, target=c.VALUE, key=b"x", range_end=b"y", value=b"5"),
        "an empty range's version": c(result=c.EQUAL, target=c.VERSION, key=b"x", range_end=b"y"),
        "without a value": c(result=c.EQUAL, target=c.VERSION, key=b"k"),
        "without a key": c(result=c.EQUAL, target=c.VERSION),
    }
    for title, compare in holds.items():
        txn(title, [compare])
    txn("empty")
    txn("reads see writes before them", [], [
        range_op(b"k"), put_op(b"k", b"8", prev_kv=True), range_op(b"k"),
        delete_op(b"l", prev_kv=True), range_op(b"k", range_end=b"m", count_only=True)])
    txn("nested", [holds["lease"]], [
        put_op(b"n1", b"1"),
        txn_op(compare=[c(result=c.EQUAL, target=c.VERSION, key=b"n1", version=1)],
               success=[put_op(b"n2", b"seen")], failure=[put_op(b"n3", b"unseen")]),
        range_op(b"n", range_end=b"o")])
    txn("put then delete", [], [put_op(b"p", b"1"), delete_op(b"p")])
    txn("delete then put", [], [delete_op(b"p"), put_op(b"p", b"1")])
    txn("deletes overlap", [], [delete_op(b"a", range_end=b"z"), delete_op(b"k")])
    txn("twice", [], [put_op(b"p"), put_op(b"p")])
    txn("twice, nested", [], [put_op(b"p"), txn_op(success=[put_op(b"p")])])
    txn("twice, in both branches of one", [], [
        txn_op(success=[put_op(b"q")], failure=[put_op(b"q")])])
    txn("an unknown lease", [], [put_op(b"r"), put_op(b"s", lease=77)])
    show("nothing of it", client.kv.Range, rpc.RangeRequest(key=b"r", range_end=b"t"))
    txn("an old revision", [], [put_op(b"r"), range_op(b"k", revision=1)])
    txn("a future revision", [], [put_op(b"r"), range_op(b"k", revision=1000)])
    txn("no operation in an operation", [], [rpc.RequestOp()])
    txn("an empty key", [], [put_op(b"")])
    answer = client.kv.Txn(rpc.TxnRequest(success=[put_op(b"many%d" % i) for i in range(128)]))
    print("128 operations:", len(answer.responses), "answers")
    txn("129 operations", [], [put_op(b"many%d" % i) for i in range(129)])
    txn("129 compares", [holds["lease"]] * 129)
    txn("129 in the other branch", [], [], [range_op(b"k")] * 129)
    txn("129 nested", [], [txn_op(success=[put_op(b"m%d" % i) for i in range(129)])])
    txn("128 and 128 nested", [], [
        put_op(b"x%d" % i) for i in range(127)] + [
        txn_op(success=[put_op(b"m%d" % i) for i in range(128)])])
    show("at last", client.kv.Range, rpc.RangeRequest(key=b"k"))


def errors():
    """Every refusal has etcd's code and text."""
    put(b"a", b"1")
    show("empty key", client.kv.Put, rpc.PutRequest(value=b"x"))
    show("empty key to read", client.kv.Range, rpc.RangeRequest())
    show("empty key to delete", client.kv.DeleteRange, rpc.DeleteRangeRequest())
    show("unknown lease", client.kv.Put, rpc.PutRequest(key=b"a", lease=77))
    show("value though ignored", client.kv.Put,
         rpc.PutRequest(key=b"a", value=b"x", ignore_value=True))
    show("lease though ignored", client.kv.Put, rpc.PutRequest(key=b"a", lease=7, ignore_lease=True))
    show("ignored value of no key", client.kv.Put, rpc.PutRequest(key=b"n", ignore_value=True))
    show("future revision", client.kv.Range, rpc.RangeRequest(key=b"a", revision=100))
    show("compact the future", client.kv.Compact, rpc.CompactionRequest(revision=100))
    show("compact", client.kv.Compact, rpc.CompactionRequest(revision=2))
    show("compact again", client.kv.Compact, rpc.CompactionRequest(revision=2))
    show("compact a negative revision", client.kv.Compact, rpc.CompactionRequest(revision=-1))
    show("a compacted revision", client.kv.Range, rpc.RangeRequest(key=b"a", revision=1))
    show("revoke an unknown lease", client.lease.LeaseRevoke, rpc.LeaseRevokeRequest(ID=77))
    show("too long a lease", client.lease.LeaseGrant, rpc.LeaseGrantRequest(TTL=9_000_000_001))
    show("a negative lease", client.lease.LeaseGrant, rpc.LeaseGrantRequest(TTL=-5, ID=5))
    show("granted again", client.lease.LeaseGrant, rpc.LeaseGrantRequest(TTL=50, ID=5))
    show("time of an unknown lease", client.lease.LeaseTimeToLive,
         rpc.LeaseTimeToLiveRequest(ID=77))
    show("a serving store", client.health.Check, health.HealthCheckRequest())

    show("unknown method", raw("/etcdserverpb.KV/Nothing"), b"")
    show("unknown service", raw("/nobody.Knows/It"), b"")

    # The text of etcd's Go library says which byte was wrong in its own words: the code matters.
    for title, data in [
            ("a length past the end", b"\x0a\xff\x01a"), ("a wrong wire type", b"\x0d\x01\x02\x03\x04"),
            ("an endless varint", b"\x08" + b"\xff" * 12), ("a field number of zero", b"\x00\x01"),
            ("a truncated varint", b"\x18\xff")]:
        try:
            print(f"{title}: {text(raw('/etcdserverpb.KV/Put')(data, timeout=10))}")
        except grpc.RpcError as error:
            print(f"{title}: {error.code().name}")


def sizes():
    """Large values, and requests that are too large."""
    limit = 3 * MEBIBYTE // 2
    request = lambda size: rpc.PutRequest(key=b"large", value=b"x" * size)
    # etcd counts some dozen bytes of its own to a request, so the last ones before the limit are left out.
    show("almost the limit", client.kv.Put, request(limit - 64))
    for size in [limit + 1, limit + 1024, limit + 400 * 1024]:
        show(f"{size} bytes", client.kv.Put, request(size))
    show("3 MiB", client.kv.Put, request(3 * MEBIBYTE))
    answer = client.kv.Range(rpc.RangeRequest(key=b"large"), timeout=10)
    print(len(answer.kvs[0].value) == limit - 64)
    for index in range(8):
        put(b"part%d" % index, b"y" * MEBIBYTE)
    answer = client.kv.Range(rpc.RangeRequest(key=b"part", range_end=b"paru"), timeout=10)
    print("an answer of", sum(len(entry.value) for entry in answer.kvs), "bytes of values")
    operations = [put_op(b"t%d" % index, b"z" * (limit // 4)) for index in range(4)]
    show("a large transaction", client.kv.Txn, rpc.TxnRequest(success=operations))


def watches():
    """Several watches over one stream."""
    put(b"a", b"1")
    put(b"b", b"2")
    stream = Stream(client.watch.Watch)

    def create(key, **more):
        stream.send(rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=key, **more)))

    def receive(count=1):
        """The next answers, by watch: that of several watches, etcd serves in any order."""
        answers = [stream.receive() for _ in range(count)]
        for answer in sorted(answers, key=lambda answer: answer.watch_id):
            print(text(answer))

    print("-- watches get ids in order, or the one that they ask for")
    create(b"a")
    receive()
    create(b"a", range_end=b"c", prev_kv=True)
    receive()
    create(b"b", watch_id=7, filters=[rpc.WatchCreateRequest.NODELETE])
    receive()
    create(b"b", watch_id=7)
    receive()
    create(b"b", filters=[rpc.WatchCreateRequest.NOPUT])
    receive()
    print("-- each gets what it asked for")
    put(b"a", b"3")
    receive(2)
    put(b"b", b"4")
    receive(2)
    client.kv.DeleteRange(rpc.DeleteRangeRequest(key=b"b"), timeout=10)
    receive(2)
    print("-- progress")
    stream.send(rpc.WatchRequest(progress_request=rpc.WatchProgressRequest()))
    receive()
    print("-- cancelled ones are silent")
    stream.send(rpc.WatchRequest(cancel_request=rpc.WatchCancelRequest(watch_id=1)))
    receive()
    stream.send(rpc.WatchRequest(cancel_request=rpc.WatchCancelRequest(watch_id=99)))
    put(b"a", b"5")
    receive()
    print("-- from the past, in one answer")
    create(b"a", range_end=b"\x00", start_revision=1)
    receive(1)
    receive(1)
    print("-- from the future")
    create(b"future", start_revision=9)
    receive()
    put(b"future", b"too early")
    receive()
    print("-- this one is for the watch of everything; the next for both")
    put(b"future", b"now")
    receive(2)
    print("-- from before a compaction")
    client.kv.Compact(rpc.CompactionRequest(revision=6), timeout=10)
    create(b"a", start_revision=3)
    receive()
    refusal = stream.receive()
    print("cancelled:", refusal.canceled, "readable from:", refusal.compact_revision)
    print("-- without a key, all keys are meant if the end is also a zero byte")
    create(b"", range_end=b"\x00")
    receive()
    create(b"z", range_end=b"a")
    receive()
    stream.close()


def leases():
    """Granting, keeping alive over one stream, expiry and revoking."""
    grant = lambda ttl, identifier: client.lease.LeaseGrant(
        rpc.LeaseGrantRequest(TTL=ttl, ID=identifier), timeout=10)
    print(text(grant(100, 10)))
    print(text(grant(200, 20)))
    chosen = grant(300, 0)
    print(chosen.ID > 0, chosen.TTL)
    stream = Stream(client.lease.LeaseKeepAlive)
    for identifier in [10, 20, 30, 10]:
        stream.send(rpc.LeaseKeepAliveRequest(ID=identifier))
        print("kept alive:", text(stream.receive()))
    stream.close()
    put(b"a", b"1", lease=10)
    put(b"b", b"2", lease=10)
    put(b"c", b"3", lease=20)
    time = client.lease.LeaseTimeToLive(
        rpc.LeaseTimeToLiveRequest(ID=10, keys=True), timeout=10)
    print(time.grantedTTL, 90 <= time.TTL <= 100, sorted(time.keys))
    client.kv.Put(rpc.PutRequest(key=b"a", value=b"4", ignore_lease=True), timeout=10)
    show("a lease kept", client.kv.Range, rpc.RangeRequest(key=b"a"))
    put(b"a", b"5", lease=20)
    put(b"b", b"6")
    time = client.lease.LeaseTimeToLive(
        rpc.LeaseTimeToLiveRequest(ID=20, keys=True), timeout=10)
    print(sorted(time.keys))
    print(sorted(lease.ID for lease in client.lease.LeaseLeases(
        rpc.LeaseLeasesRequest(), timeout=10).leases if lease.ID != chosen.ID))
    watch = Stream(client.watch.Watch)
    watch.send(rpc.WatchRequest(create_request=rpc.WatchCreateRequest(
        key=b"\x00", range_end=b"\x00", prev_kv=True)))
    watch.receive()
    show("revoke", client.lease.LeaseRevoke, rpc.LeaseRevokeRequest(ID=20))
    print("-- all its keys go in one revision")
    print(text(watch.receive()))
    show("revoke one without keys", client.lease.LeaseRevoke, rpc.LeaseRevokeRequest(ID=10))
    grant(1, 40)
    put(b"short", b"lived", lease=40)
    watch.receive()
    print("-- expiry")
    print(text(watch.receive()))
    watch.close()


def many():
    """Many calls at once over one connection, each answered once and rightly."""
    calls = [client.kv.Put.future(rpc.PutRequest(key=b"n%04d" % (i % 500), value=b"%d" % i))
             for i in range(2000)]
    revisions = sorted(call.result(timeout=20).header.revision for call in calls)
    print("revisions without gap or repetition:", revisions == list(range(2, 2002)))
    watched = []

    def watch():
        stream = Stream(client.watch.Watch)
        stream.send(rpc.WatchRequest(create_request=rpc.WatchCreateRequest(
            key=b"n", range_end=b"o", start_revision=2)))
        events = []
        while len(events) < 2000:
            events += [event.kv.mod_revision for event in stream.receive().events]
        watched.append(events == list(range(2, 2002)))
        stream.close()

    threads = [threading.Thread(target=watch) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("watches that saw every event, once and in order:", watched.count(True))


def differences():
    """Where the store is not as etcd 3.5.1, each with the reason."""
    put(b"a", b"1")
    put(b"a", b"2")
    print("-- etcd 3.5 takes an unknown order for none; 3.6 refuses it, as the store does")
    show("unknown order", client.kv.Range, rpc.RangeRequest(key=b"a", sort_order=9))
    print("-- an unknown target ends etcd 3.5.1's process")
    show("unknown target", client.kv.Range, rpc.RangeRequest(
        key=b"a", sort_order=1, sort_target=9))
    print("-- etcd's library answers RESOURCE_EXHAUSTED, which clients take for a passing trouble")
    show("malformed path", raw("/nothing"), b"")
    print("-- etcd's header has no revision here")
    client.kv.Compact(rpc.CompactionRequest(revision=3), timeout=10)
    stream = Stream(client.watch.Watch)
    stream.send(rpc.WatchRequest(create_request=rpc.WatchCreateRequest(
        key=b"a", start_revision=2)))
    print(text(stream.receive()))
    print(text(stream.receive()))
    stream.close()


{f.__name__: f for f in [keys, transactions, errors, sizes, watches, leases, many,
                          differences]}[sys.argv[2]]()
