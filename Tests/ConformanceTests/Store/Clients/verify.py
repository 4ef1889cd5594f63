"""Checks what load.py remembered against every member: verify.py ENDPOINT,ENDPOINT... FILE.

Prints a summary; ends with status 1 and one line per fault if there is any.
"""

import json
import sys

from store_client import Client, rpc

with open(sys.argv[2]) as file:
    record = json.load(file)
clients = [(endpoint, Client(endpoint)) for endpoint in sys.argv[1].split(",")]
acknowledged = [tuple(entry) for entry in record["acknowledged"]]
faults = []


def everything(client):
    """All keys of a member, after a linearizable read: value and revision of each."""
    client.kv.Range(rpc.RangeRequest(key=b"counter"), timeout=20)
    found, key = {}, b"\x00"
    while True:
        answer = client.kv.Range(rpc.RangeRequest(
            key=key, range_end=b"\x00", limit=5000, serializable=True), timeout=20)
        for entry in answer.kvs:
            found[entry.key.decode()] = (entry.value.decode(), entry.mod_revision)
        if not answer.more:
            return found
        key = answer.kvs[-1].key + b"\x00"


# Writes that are the last of their key as far as its only writer knows.
newest = {}
for key, value, revision in acknowledged:
    if revision > newest.get(key, ("", 0))[1]:
        newest[key] = (value, revision)
revisions = [revision for _, _, revision in acknowledged]
if len(set(revisions)) != len(revisions):
    faults.append("two acknowledged puts share a revision")

for endpoint, client in clients:
    found = everything(client)
    for key, (value, revision) in newest.items():
        if key not in found:
            faults.append(f"{endpoint}: {key} of revision {revision} is lost")
        elif found[key][1] < revision or found[key][0] < value:
            # A later write of the same writer may have come through without an answer: never an older one.
            faults.append(f"{endpoint}: {key} is at {found[key]}, acknowledged was {value, revision}")
    counter = int(found["counter"][0])
    low = record["increments"]["acknowledged"]
    high = low + record["increments"]["unknown"]
    if not low <= counter <= high:
        faults.append(f"{endpoint}: the counter is {counter}, not from {low} to {high}")

# Hashes at one revision, which all members have.
revision = clients[0][1].kv.Range(rpc.RangeRequest(key=b"counter"), timeout=20).header.revision
hashes = {}
for endpoint, client in clients:
    client.kv.Range(rpc.RangeRequest(key=b"counter"), timeout=20)
    answer = client.maintenance.HashKV(rpc.HashKVRequest(revision=revision), timeout=20)
    hashes[endpoint] = answer.hash
if len(set(hashes.values())) != 1:
    faults.append(f"hashes at revision {revision} differ: {hashes}")

# The watch: Ordered, Unique, and Reliable through all its resumptions.
events = [tuple(event) for event in record["events"]]
if any(later[1] < earlier[1] for earlier, later in zip(events, events[1:])):
    faults.append("events came out of order")
if len(set(events)) != len(events):
    faults.append("an event came twice")
seen = set(events)
missing = [entry for entry in acknowledged if (entry[0], entry[2]) not in seen]
if missing:
    faults.append(f"{len(missing)} acknowledged writes have no event, e.g. {missing[0]}")

print(f"acknowledged: {len(acknowledged)} puts, {record['increments']['acknowledged']} increments; "
      f"events: {len(events)}; revision: {revision}; failed calls: {sum(record['failed'].values())}")
for reason, count in sorted(record["failed"].items()):
    print(f"  {count} x {reason}")
for fault in faults[:20]:
    print("FAULT", fault)
sys.exit(1 if faults else 0)
