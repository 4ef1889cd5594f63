"""KV: every option of Range, Put, DeleteRange, Txn and Compact."""

import itertools

from store_client import rpc
from surface_tools import delete, get, put, txn

R = rpc.RangeRequest
C = rpc.Compare
ALL = (b"\x00", b"\x00")


def fill(surface):
    for index, key in enumerate([b"a", b"b", b"\x00", b"\xff\xff", b"b/1", b"b/2", b"a", b"c", b"b"]):
        surface.quiet("kv.Put", put(key, b"v%d" % (9 - index)))
    surface.quiet("kv.DeleteRange", delete(b"c"))
    surface.quiet("kv.Put", put(b"c", b"again"))


def ranges(surface):
    fill(surface)
    spans = {"one": (b"a", b""), "absent": (b"nothing", b""), "all": ALL, "from b": (b"b", b"\x00"),
             "prefix": (b"b", b"c"), "empty": (b"b", b"a"), "itself": (b"b", b"b"),
             "from zero to c": (b"\x00", b"c")}
    for name, (key, end) in spans.items():
        for limit in [0, 1, 2, -1, 100]:
            surface.call(f"{name} limit {limit}", "kv.Range", get(key, end, limit=limit))
        for revision in [0, 1, 2, 5, 10, 11, 12, 13, -3]:
            surface.call(f"{name} at {revision}", "kv.Range", get(key, end, revision=revision))
        surface.call(f"{name} keys", "kv.Range", get(key, end, keys_only=True))
        surface.call(f"{name} count", "kv.Range", get(key, end, count_only=True))
        surface.call(f"{name} count and keys", "kv.Range", get(key, end, count_only=True, keys_only=True))
        surface.call(f"{name} serializable", "kv.Range", get(key, end, serializable=True))
        surface.call(f"{name} future", "kv.Range", get(key, end, revision=99))
    for order, target in itertools.product([0, 1, 2], [0, 1, 2, 3, 4]):
        for limit in [0, 3]:
            surface.call(f"order {order} by {target} limit {limit}", "kv.Range",
                         get(*ALL, sort_order=order, sort_target=target, limit=limit))
            surface.call(f"order {order} by {target} limit {limit} at 8", "kv.Range",
                         get(*ALL, sort_order=order, sort_target=target, limit=limit, revision=8))
    for name in ["min_mod_revision", "max_mod_revision", "min_create_revision", "max_create_revision"]:
        for bound in [-1, 1, 4, 8, 100]:
            surface.call(f"{name} {bound}", "kv.Range", get(*ALL, **{name: bound}))
            surface.call(f"{name} {bound} limit 2", "kv.Range", get(*ALL, limit=2, **{name: bound}))
            surface.call(f"{name} {bound} count", "kv.Range", get(*ALL, count_only=True, **{name: bound}))
    surface.call("no key", "kv.Range", get(b""))
    surface.call("no key but an end", "kv.Range", get(b"", b"z"))
    surface.call("no key, no end", "kv.Range", get(b"", b"\x00"))
    surface.call("unknown order", "kv.Range", get(b"a", sort_order=9))


def writes(surface):
    lease = surface.quiet("lease.LeaseGrant", rpc.LeaseGrantRequest(TTL=600, ID=99)).ID
    call = lambda name, request: surface.call(name, "kv.Put", request)
    call("put", put(b"k", b"1"))
    call("put with the previous", put(b"k", b"2", prev_kv=True))
    call("put a new one with the previous", put(b"l", b"2", prev_kv=True))
    call("put with a lease", put(b"k", b"3", lease=lease))
    call("keep the lease", put(b"k", b"4", ignore_lease=True, prev_kv=True))
    call("keep the value", put(b"k", ignore_value=True, lease=lease, prev_kv=True))
    call("keep both", put(b"k", ignore_value=True, ignore_lease=True, prev_kv=True))
    call("drop the lease", put(b"k", b"5", prev_kv=True))
    call("keep the lease of no key", put(b"none", b"5", ignore_lease=True))
    call("keep the value of no key", put(b"none", ignore_value=True))
    call("value and keep it", put(b"k", b"x", ignore_value=True))
    call("lease and keep it", put(b"k", b"x", ignore_lease=True, lease=lease))
    call("an unknown lease", put(b"k", b"x", lease=12345))
    call("a negative lease", put(b"k", b"x", lease=-1))
    call("no key", put(b"", b"x"))
    call("an empty value", put(b"empty", b""))
    call("bytes of any kind", put(bytes(range(256)), bytes(range(256))))
    surface.call("read them", "kv.Range", get(*ALL))
    erase = lambda name, *arguments, **more: surface.call(name, "kv.DeleteRange", delete(*arguments, **more))
    erase("delete", b"k")
    erase("delete again", b"k", prev_kv=True)
    erase("delete a range", b"e", b"m", prev_kv=True)
    erase("delete an empty range", b"z", b"a", prev_kv=True)
    erase("delete from", b"\x00", b"\x00", prev_kv=True)
    erase("delete no key", b"")
    erase("delete no key to an end", b"", b"z")
    surface.call("nothing is left", "kv.Range", get(*ALL))


def compactions(surface):
    for index in range(10):
        surface.quiet("kv.Put", put(b"k%d" % (index % 3), b"%d" % index))
    surface.quiet("kv.DeleteRange", delete(b"k1"))
    call = lambda name, revision, physical=False: surface.call(
        name, "kv.Compact", rpc.CompactionRequest(revision=revision, physical=physical))
    call("zero", 0)
    call("negative", -1)
    call("future", 100)
    call("now", 5)
    call("again", 5)
    call("earlier", 4)
    surface.call("read at it", "kv.Range", get(*ALL, revision=5))
    surface.call("read before it", "kv.Range", get(*ALL, revision=4))
    call("physical", 8, True)
    surface.call("read at the physical one", "kv.Range", get(*ALL, revision=8))
    surface.call("read before the physical one", "kv.Range", get(*ALL, revision=7))
    call("to the newest", 12, True)
    surface.call("read at the newest", "kv.Range", get(*ALL, revision=12))
    surface.call("read now", "kv.Range", get(*ALL))
    surface.call("in a transaction", "kv.Txn", txn(success=[get(*ALL, revision=3)]))
    surface.call("in a writing transaction", "kv.Txn", txn(success=[put(b"w"), get(*ALL, revision=3)]))
    surface.call("was it written", "kv.Range", get(b"w"))


def comparisons(surface):
    lease = surface.quiet("lease.LeaseGrant", rpc.LeaseGrantRequest(TTL=600, ID=77)).ID
    surface.quiet("kv.Put", put(b"k", b"5"))
    surface.quiet("kv.Put", put(b"k", b"6"))
    surface.quiet("kv.Put", put(b"l", b"7", lease=lease))
    targets = {C.VERSION: "version", C.CREATE: "create_revision", C.MOD: "mod_revision", C.LEASE: "lease"}
    for key in [b"k", b"l", b"no"]:
        for target, field in targets.items():
            for result in [0, 1, 2, 3]:
                for bound in [0, 2, 77]:
                    compare = C(key=key, target=target, result=result, **{field: bound})
                    surface.call(f"{key} {field} {result} {bound}", "kv.Txn", txn([compare]))
        for result in [0, 1, 2, 3]:
            for bound in [b"", b"5", b"6", b"7", b"66"]:
                compare = C(key=key, target=C.VALUE, result=result, value=bound)
                surface.call(f"{key} value {result} {bound}", "kv.Txn", txn([compare]))
    for key, end in [(b"k", b"m"), (b"k", b"\x00"), (b"\x00", b"\x00"), (b"x", b"y"), (b"m", b"k"), (b"", b"\x00")]:
        for result in [0, 1, 2, 3]:
            surface.call(f"{key} to {end} value {result}", "kv.Txn", txn(
                [C(key=key, range_end=end, target=C.VALUE, result=result, value=b"6")]))
            surface.call(f"{key} to {end} version {result}", "kv.Txn", txn(
                [C(key=key, range_end=end, target=C.VERSION, result=result, version=1)]))
    surface.call("no target", "kv.Txn", txn([C(key=b"k", target=C.MOD)]))
    surface.call("another target's value", "kv.Txn", txn([C(key=b"k", target=C.VERSION, value=b"2")]))
    surface.call("no key", "kv.Txn", txn([C(target=C.VERSION)]))
    surface.call("unknown result", "kv.Txn", txn([C(key=b"k", result=9, target=C.VERSION, version=2)]))
    surface.call("unknown target", "kv.Txn", txn([C(key=b"k", result=0, target=9, version=2)]))
    surface.call("all of several", "kv.Txn", txn(
        [C(key=b"k", target=C.VERSION, version=2), C(key=b"l", target=C.VERSION, version=1)]))
    surface.call("one of several", "kv.Txn", txn(
        [C(key=b"k", target=C.VERSION, version=2), C(key=b"l", target=C.VERSION, version=2)]))


def transactions(surface):
    call = lambda name, *arguments, **more: surface.call(name, "kv.Txn", txn(*arguments, **more))
    surface.quiet("kv.Put", put(b"k", b"1"))
    no, yes = [C(key=b"k", target=C.VERSION, version=99)], []
    call("empty")
    call("both", yes, [put(b"a")], [put(b"b")])
    call("the other", no, [put(b"c")], [put(b"d")])
    call("read what was written", yes, [
        get(b"k"), put(b"k", b"2", prev_kv=True), get(b"k"), delete(b"a", prev_kv=True), get(*ALL),
        get(*ALL, count_only=True), get(b"k", revision=2)])
    call("nested", yes, [put(b"n", b"1"), txn(
        [C(key=b"n", target=C.VALUE, value=b"1")], [put(b"n2", b"yes"), txn(no, [], [put(b"n3", b"deep")])],
        [put(b"n4")]), get(b"n", b"o")])
    call("nested and read only", yes, [get(b"k"), txn(no, [get(b"k")], [get(b"n", b"o", limit=1), txn()])])
    call("serializable", yes, [get(b"k", serializable=True)])
    call("a later nested compare sees a put", yes, [put(b"q", b"1"), txn(
        [C(key=b"q", target=C.VERSION, version=1)], [get(b"q")], [get(b"k")])])
    call("nested reads at revisions", yes, [put(b"r"), txn(yes, [get(b"r", revision=1), get(b"r", revision=99)])])
    for first, second in [
            (put(b"p"), put(b"p")), (put(b"p"), delete(b"p")), (delete(b"p"), put(b"p")),
            (put(b"p"), delete(b"a", b"z")), (delete(b"a", b"z"), put(b"p")), (put(b"p"), delete(b"p", b"\x00")),
            (delete(b"a"), delete(b"a")), (delete(b"a", b"z"), delete(b"b", b"c")), (put(b"p"), get(b"p")),
            (put(b"p"), txn(success=[put(b"p")])), (put(b"p"), txn(failure=[put(b"p")])),
            (put(b"p"), txn(success=[delete(b"p")])), (delete(b"p"), txn(success=[put(b"p")])),
            (txn(success=[put(b"p")]), txn(success=[put(b"p")])),
            (txn(success=[put(b"p")]), txn(failure=[put(b"p")])),
            (txn(success=[put(b"p")]), txn(success=[delete(b"p")])),
            (txn(success=[delete(b"p")]), txn(success=[put(b"p")])),
            (txn(success=[put(b"p")]), put(b"p")), (txn(success=[delete(b"p")]), put(b"p")),
            (txn(success=[put(b"p")], failure=[put(b"p")]), put(b"x")),
            (txn(success=[put(b"p")], failure=[delete(b"p")]), put(b"x")),
            (txn(success=[txn(success=[put(b"p")])]), put(b"p")), (delete(b"q", b"a"), put(b"p"))]:
        shape = f"{describe(first)} then {describe(second)}"
        call(shape, yes, [first, second])
        call(f"otherwise {shape}", no, [], [first, second])
    call("an unknown lease", yes, [put(b"u"), put(b"v", lease=5)])
    call("nothing of it", yes, [get(b"u", b"w")])
    call("an unknown lease in the other branch", yes, [put(b"u")], [put(b"v", lease=5)])
    call("keep the value of no key", yes, [put(b"u"), put(b"absent", ignore_value=True)])
    call("keep the value of a key of its own", yes, [put(b"fresh", b"1"), txn(success=[get(b"fresh")])])
    call("a future revision", yes, [put(b"u"), get(b"k", revision=1000)])
    call("no key in an operation", yes, [put(b"")])
    call("no key in the other branch", yes, [], [get(b"")])
    call("value and keep it", yes, [put(b"k", b"x", ignore_value=True)])
    call("unknown order", yes, [get(b"k", sort_order=7)])
    surface.call("no operation", "kv.Txn", rpc.TxnRequest(success=[rpc.RequestOp()]))
    surface.call("no operation in the other", "kv.Txn", rpc.TxnRequest(failure=[rpc.RequestOp()]))


def describe(request):
    if isinstance(request, rpc.TxnRequest):
        parts = [f"+{describe(op)}" for op in request.success] + [f"-{describe(op)}" for op in request.failure]
        return f"({' '.join(parts)})"
    if isinstance(request, rpc.RequestOp):
        return describe(getattr(request, request.WhichOneof("request")))
    name = {rpc.PutRequest: "put", rpc.RangeRequest: "get", rpc.DeleteRangeRequest: "delete"}[type(request)]
    end = getattr(request, "range_end", b"")
    return f"{name} {request.key.decode()}" + (f"..{end!r}" if end else "")


def sizes(surface):
    """How operations are counted: at each level the longest list, the rest for what is nested."""
    compare = C(key=b"k", target=C.VERSION)
    many = lambda count, prefix=b"k": [put(prefix + b"%d" % index) for index in range(count)]
    reads = lambda count: [get(b"k")] * count
    for count in [127, 128, 129]:
        surface.call(f"{count} puts", "kv.Txn", txn(success=many(count)), mask=["responses"])
        surface.call(f"{count} compares", "kv.Txn", txn([compare] * count))
        surface.call(f"{count} in the other branch", "kv.Txn", txn(failure=many(count)))
        surface.call(f"{count} nested", "kv.Txn", txn(success=[txn(success=reads(count))]), mask=["responses"])
        surface.call(f"{count} nested in the other", "kv.Txn", txn(failure=[txn(failure=reads(count))]))
    for outer, inner in [(1, 127), (1, 128), (64, 64), (64, 65), (127, 1), (127, 2), (128, 1)]:
        surface.call(f"{outer} and {inner} in one of them", "kv.Txn", txn(
            success=reads(outer - 1) + [txn(success=reads(inner))]), mask=["responses"])
        surface.call(f"{outer} compares and {inner} nested", "kv.Txn", txn(
            [compare] * outer, [txn(success=reads(inner))]), mask=["responses"])
        surface.call(f"{outer} twice {inner}", "kv.Txn", txn(
            success=reads(max(outer - 2, 0)) + [txn(success=reads(inner)), txn(failure=reads(inner))]),
            mask=["responses"])
    nested = txn(success=[get(b"k")])
    for depth in range(1, 8):
        surface.call(f"depth {depth}", "kv.Txn", nested)
        nested = txn(success=[nested])
    limit = 3 << 19
    for size in [limit - 64, limit + 1, limit + (400 << 10), limit + (512 << 10) + 1]:
        surface.call(f"a value of {size} bytes", "kv.Put", put(b"large", b"x" * size))
    surface.call("large in parts", "kv.Txn", txn(success=[put(b"l%d" % i, b"z" * (limit // 4)) for i in range(4)]))
    for path in ["/etcdserverpb.KV/Nothing", "/nobody.Knows/It", "/etcdserverpb.Watch/Nothing"]:
        surface.raw(path, path, b"")
    for name, data in {"a length past the end": b"\x0a\xff\x01a", "a wrong wire type": b"\x0d\x01\x02\x03\x04",
                       "an endless varint": b"\x08" + b"\xff" * 12, "a field number of zero": b"\x00\x01",
                       "a truncated varint": b"\x18\xff"}.items():
        surface.raw(name, "/etcdserverpb.KV/Put", data, details=False)
        surface.raw(f"{name} for Txn", "/etcdserverpb.KV/Txn", data, details=False)
    surface.raw("unknown fields", "/etcdserverpb.KV/Put", b"\x0a\x01a\x12\x01b\xa2\x06\x03abc")
    surface.raw("nothing at all", "/etcdserverpb.KV/Put", b"")


SECTIONS = {"ranges": ranges, "writes": writes, "compactions": compactions, "comparisons": comparisons,
            "transactions": transactions, "sizes": sizes}
