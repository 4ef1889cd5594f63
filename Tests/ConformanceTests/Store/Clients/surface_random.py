"""Requests put together at random, the same for every server: what nobody thought of."""

import random

from store_client import rpc
from surface_tools import delete, get, put, txn

KEYS = [b"a", b"b", b"ba", b"bb", b"c", b"\x00", b"\xff"]
ENDS = [b"", b"", b"", b"b", b"c", b"bb", b"\x00", b"\xff\xff"]


class Requests:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.revision = 1

    def span(self):
        return self.random.choice(KEYS), self.random.choice(ENDS)

    def flag(self):
        return self.random.random() < 0.3

    def range(self):
        key, end = self.span()
        rare = lambda *values: self.random.choice(values) if self.flag() else 0
        near = max(self.revision - 4, 1), self.revision, self.revision + 1, 1, -1
        return get(
            key, end, limit=rare(1, 2, 3, -1), revision=rare(*near), sort_order=self.random.choice([0, 0, 1, 2]),
            sort_target=self.random.choice([0, 0, 1, 2, 3, 4]), serializable=self.flag(), keys_only=self.flag(),
            count_only=self.flag() and self.flag(), min_mod_revision=rare(*near), max_mod_revision=rare(*near),
            min_create_revision=rare(*near), max_create_revision=rare(*near))

    def put(self, in_transaction=False):
        # In a transaction that deletes the key before, that ends the real etcd's process.
        ignores = not in_transaction and self.flag()
        return put(
            self.random.choice(KEYS), b"" if ignores else self.random.choice([b"1", b"2", b"long value", b""]),
            prev_kv=self.flag(), ignore_value=ignores, ignore_lease=not in_transaction and self.flag() and self.flag(),
            lease=self.random.choice([0, 0, 0, 0, 7, 8]))

    def delete(self):
        key, end = self.span()
        return delete(key, end, prev_kv=self.flag())

    def compare(self):
        key, end = self.span()
        target = self.random.choice(range(5))
        bound = self.random.choice([0, 1, 2, 3, self.revision, self.revision - 2])
        field = ["version", "create_revision", "mod_revision", "value", "lease"][target]
        return rpc.Compare(
            key=key, range_end=end, target=target, result=self.random.choice(range(4)),
            **{field: self.random.choice([b"", b"1", b"2"]) if field == "value" else bound})

    def txn(self, depth=0):
        def operations():
            kinds = [self.range, lambda: self.put(in_transaction=True), self.delete]
            if depth < 3:
                kinds.append(lambda: self.txn(depth + 1))
            return [self.random.choice(kinds)() for _ in range(self.random.choice([0, 1, 2, 3]))]
        compares = [self.compare() for _ in range(self.random.choice([0, 1, 1, 2]))]
        return txn(compares, operations(), operations())


def requests(seed):
    def run(surface):
        source = Requests(seed)
        for identifier in [7, 8]:
            surface.quiet("lease.LeaseGrant", rpc.LeaseGrantRequest(TTL=600, ID=identifier))
        for index in range(500):
            kind, request = source.random.choice([
                ("Range", source.range), ("Put", source.put), ("Put", source.put), ("DeleteRange", source.delete),
                ("Txn", source.txn), ("Txn", source.txn), ("Txn", source.txn)])
            request = request()
            answer = surface.call(f"{index} {kind} {describe(request)}", f"kv.{kind}", request)
            if answer is not None:
                source.revision = max(source.revision, answer.header.revision)
            if index % 100 == 99:
                surface.call(f"{index} compact", "kv.Compact", rpc.CompactionRequest(revision=source.revision - 5))
    return run


def describe(request):
    from google.protobuf import text_format
    return text_format.MessageToString(request, as_one_line=True).replace("|", "/")


SECTIONS = {f"random-{seed}": requests(seed) for seed in range(1, 5)}
