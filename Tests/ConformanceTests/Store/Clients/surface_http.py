"""The JSON gateway and the plain HTTP endpoints."""

import base64
import http.client
import json

from store_client import rpc
from surface_tools import masked

b64 = lambda data: base64.b64encode(data).decode()


def ask(surface, method, path, body=None, headers=None):
    host, _, port = surface.endpoints[0].rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    connection.request(method, path, body=body, headers=headers or {})
    response = connection.getresponse()
    data = response.read()
    connection.close()
    return response, data


def gateway(surface):
    def post(name, path, request, mask=()):
        body = request if isinstance(request, (str, bytes)) else json.dumps(request)
        response, data = ask(surface, "POST", "/v3/" + path, body, {"Content-Type": "application/json"})
        try:
            # A stream's answers stand one a line.
            answers = [masked(json.loads(line), set(mask)) for line in data.splitlines()]
            answer = answers[0] if len(answers) == 1 else answers
        except ValueError:
            answer = data.decode(errors="replace")
        surface.emit(name, {
            "status": response.status, "type": response.getheader("content-type"), "answer": answer})
        return answer

    post("put", "kv/put", {"key": b64(b"k"), "value": b64(b"1")})
    post("put with the previous", "kv/put", {"key": b64(b"k"), "value": b64(b"2"), "prev_kv": True})
    post("range", "kv/range", {"key": b64(b"k")})
    post("range, with names of JSON", "kv/range", {"key": b64(b"k"), "rangeEnd": b64(b"l"), "keysOnly": True})
    post("range by enumerators", "kv/range", {
        "key": b64(b"\0"), "range_end": b64(b"\0"), "sort_order": "DESCEND", "sort_target": "MOD", "limit": "1"})
    post("an unknown enumerator", "kv/range", {"key": b64(b"k"), "sort_order": "SIDEWAYS"})
    post("an unknown field", "kv/range", {"key": b64(b"k"), "nothing": 1})
    post("not JSON", "kv/range", "{")
    post("not base 64", "kv/range", {"key": "*"})
    post("no body", "kv/range", "")
    post("no key", "kv/put", {})
    post("a future revision", "kv/range", {"key": b64(b"k"), "revision": 99})
    post("txn", "kv/txn", {
        "compare": [{"key": b64(b"k"), "target": "VERSION", "result": "EQUAL", "version": "2"}],
        "success": [{"requestPut": {"key": b64(b"t"), "value": b64(b"3")}},
                    {"request_range": {"key": b64(b"t")}}]})
    post("delete", "kv/deleterange", {"key": b64(b"t"), "prev_kv": True})
    post("compact", "kv/compaction", {"revision": 2})
    post("compact again", "kv/compaction", {"revision": 2})
    post("grant", "lease/grant", {"TTL": 100, "ID": 7})
    post("time", "lease/timetolive", {"ID": 7, "keys": True}, ["TTL"])
    post("time, by the old path", "kv/lease/timetolive", {"ID": 7}, ["TTL"])
    post("leases", "lease/leases", {})
    post("keep alive", "lease/keepalive", {"ID": 7})
    post("keep alive two", "lease/keepalive", '{"ID": 7}{"ID": 8}')
    post("lock", "lock/lock", {"name": b64(b"l"), "lease": 7})
    post("unlock", "lock/unlock", {"key": b64(b"l/7")})
    post("campaign", "election/campaign", {"name": b64(b"e"), "lease": 7, "value": b64(b"me")})
    post("leader", "election/leader", {"name": b64(b"e")})
    post("nobody leads", "election/leader", {"name": b64(b"nobody")})
    post("proclaim", "election/proclaim", {
        "leader": {"name": b64(b"e"), "key": b64(b"e/7"), "rev": "6", "lease": "7"}, "value": b64(b"you")})
    post("resign", "election/resign", {
        "leader": {"name": b64(b"e"), "key": b64(b"e/7"), "rev": "6", "lease": "7"}})
    post("resign without a leader", "election/resign", {})
    post("revoke", "lease/revoke", {"ID": 7})
    post("revoke again", "kv/lease/revoke", {"ID": 7})
    post("members", "cluster/member/list", {}, ["members"])
    post("alarms", "maintenance/alarm", {})
    post("status of auth", "auth/status", {})
    post("add a user", "auth/user/add", {"name": "u", "password": "p"})
    post("users", "auth/user/list", {})
    post("enable auth", "auth/enable", {})
    post("no such path", "kv/nothing", {})
    post("hash", "maintenance/hashkv", {}, ["hash"])
    for method in ["GET", "PUT", "DELETE"]:
        response, _ = ask(surface, method, "/v3/kv/range")
        surface.emit(f"{method} of a call", response.status)


def endpoints(surface):
    for path in ["/health", "/health?serializable=true", "/health?exclude=NOSPACE", "/nothing", "/"]:
        response, data = ask(surface, "GET", path)
        surface.emit(path, {"status": response.status, "body": data.decode()})
    for method in ["POST", "DELETE"]:
        response, data = ask(surface, method, "/health")
        surface.emit(f"{method} /health", response.status)
        response, data = ask(surface, method, "/version")
        surface.emit(f"{method} /version", response.status)
    response, data = ask(surface, "GET", "/version")
    surface.emit("/version", {"status": response.status, "type": response.getheader("content-type"),
                              "fields": sorted(json.loads(data))})
    response, data = ask(surface, "GET", "/metrics")
    surface.emit("/metrics", {"status": response.status})
    surface.quiet("maintenance.Alarm", rpc.AlarmRequest(
        action=rpc.AlarmRequest.ACTIVATE, alarm=rpc.NOSPACE, memberID=1))
    for path in ["/health", "/health?exclude=NOSPACE"]:
        response, data = ask(surface, "GET", path)
        surface.emit(f"{path} with an alarm", {"status": response.status, "body": data.decode()})


SECTIONS = {"gateway": gateway, "endpoints": endpoints}
