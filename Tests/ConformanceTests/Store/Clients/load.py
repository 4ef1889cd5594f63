"""Writes to a store while members come and go, and remembers what was acknowledged.

    load.py ENDPOINT,ENDPOINT... FILE

Runs until SIGTERM, then writes FILE, which verify.py reads. Three kinds of writers, each a thread with a
connection to every member, going on to the next member when a call fails:

- some put ever new keys;
- some overwrite one key with ever greater numbers;
- some add one to a common counter by compare-and-swap.

A watcher follows everything from the first revision, and resumes on another member when its own goes away.
"""

import json
import signal
import sys
import threading
import time

from store_client import Client, Stream, grpc, rpc

endpoints = sys.argv[1].split(",")
stopping = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stopping.set())
lock = threading.Lock()
# Per acknowledged put: key, value, revision.
acknowledged = []
# Increments of the counter: acknowledged ones, and those whose outcome is unknown.
increments = {"acknowledged": 0, "unknown": 0}
failed_calls = {}
# Per event: key, revision, in the order received.
events = []


class Writer(threading.Thread):
    """A thread that makes one call after another."""

    def __init__(self, number):
        super().__init__(daemon=True)
        self.number = number
        self.clients = [Client(endpoint) for endpoint in endpoints]
        self.member = number % len(endpoints)
        self.count = 0

    def run(self):
        while not stopping.is_set():
            try:
                self.write(self.clients[self.member])
                self.count += 1
            except grpc.RpcError as error:
                reason = f"{error.code().name} {error.details()}".split(";")[0]
                with lock:
                    failed_calls[reason] = failed_calls.get(reason, 0) + 1
                self.member = (self.member + 1) % len(endpoints)
                # A number that may have been written is never used again.
                self.count += 1
                time.sleep(0.05)

    def put(self, client, key, value):
        answer = client.kv.Put(rpc.PutRequest(key=key.encode(), value=value.encode()), timeout=2)
        with lock:
            acknowledged.append((key, value, answer.header.revision))


class NewKeys(Writer):
    def write(self, client):
        self.put(client, f"new/{self.number}/{self.count:06d}", "x" * 100 + str(self.count))


class OneKey(Writer):
    def write(self, client):
        self.put(client, f"one/{self.number}", f"{self.count:09d}")


class Counter(Writer):
    def write(self, client):
        found = client.kv.Range(rpc.RangeRequest(key=b"counter"), timeout=2)
        value, revision = 0, 0
        if found.kvs:
            value, revision = int(found.kvs[0].value), found.kvs[0].mod_revision
        swap = rpc.TxnRequest(
            compare=[rpc.Compare(target=rpc.Compare.MOD, key=b"counter", mod_revision=revision)],
            success=[rpc.RequestOp(request_put=rpc.PutRequest(
                key=b"counter", value=b"%d" % (value + 1)))])
        try:
            answer = client.kv.Txn(swap, timeout=2)
        except grpc.RpcError:
            with lock:
                increments["unknown"] += 1
            raise
        if answer.succeeded:
            with lock:
                increments["acknowledged"] += 1


def watch():
    """Follows all keys; after a failure, from the revision after the last one seen."""
    member = 0
    last = 0
    while True:
        stream = Stream(Client(endpoints[member]).watch.Watch)
        stream.send(rpc.WatchRequest(create_request=rpc.WatchCreateRequest(
            key=b"\x00", range_end=b"\x00", start_revision=last + 1)))
        try:
            while True:
                for event in stream.receive().events:
                    last = event.kv.mod_revision
                    with lock:
                        events.append((event.kv.key.decode(), last))
        except (grpc.RpcError, StopIteration):
            stream.close()
            member = (member + 1) % len(endpoints)
            time.sleep(0.05)


writers = [kind(number) for number, kind in enumerate(
    [NewKeys, OneKey, Counter, NewKeys, NewKeys, Counter, OneKey, NewKeys])]
watcher = threading.Thread(target=watch, daemon=True)
for thread in [watcher] + writers:
    thread.start()
stopping.wait()
for thread in writers:
    thread.join()
# The watcher may be behind: it is done when it has seen the last acknowledged write.
newest = max((revision for _, _, revision in acknowledged), default=0)
deadline = time.time() + 20
while time.time() < deadline and not any(revision >= newest for _, revision in events[-50:]):
    time.sleep(0.05)
with lock, open(sys.argv[2], "w") as file:
    json.dump({"acknowledged": acknowledged, "increments": increments, "failed": failed_calls,
               "events": list(events)}, file)
