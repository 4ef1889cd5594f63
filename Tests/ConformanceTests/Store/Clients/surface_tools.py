"""Calls, and their answers with what may differ masked."""

import json
import time

from google.protobuf import json_format

from store_client import Client, grpc, rpc


class Surface:
    def __init__(self, endpoints, peer_url):
        self.endpoints = endpoints
        self.peer_url = peer_url
        self.clients = [Client(endpoint) for endpoint in endpoints]
        self.next = 0
        self.token = None

    @property
    def client(self):
        """The endpoints take turns."""
        self.next += 1
        return self.clients[self.next % len(self.clients)]

    def emit(self, name, answer):
        print(json.dumps({"name": name, "answer": answer}, sort_keys=True))

    def call(self, name, method, request, mask=(), timeout=30, metadata=None):
        """Makes a unary call, prints the answer and returns it; None for an error.

        method: SERVICE.METHOD, of a client's stubs. mask: names of fields of which only the presence counts.
        """
        service, _, rpc_name = method.partition(".")
        stub = getattr(getattr(self.client, service), rpc_name)
        if metadata is None and self.token:
            metadata = [("token", self.token)]
        try:
            answer = stub(request, timeout=timeout, metadata=metadata)
            self.emit(name, shown(answer, mask))
            return answer
        except grpc.RpcError as error:
            self.emit(name, {"code": error.code().name, "details": error.details()})
            return None

    def quiet(self, method, request, timeout=30):
        """A call whose answer is of no interest."""
        service, _, rpc_name = method.partition(".")
        stub = getattr(getattr(self.client, service), rpc_name)
        metadata = [("token", self.token)] if self.token else None
        return stub(request, timeout=timeout, metadata=metadata)

    def raw(self, name, path, data, details=True):
        """A call of bytes as they are; the text of an error may be left out."""
        call = self.client.channel.unary_unary(
            path, request_serializer=lambda data: data, response_deserializer=lambda data: data)
        try:
            # Its size depends on the ids in it.
            self.emit(name, {"answered": len(call(data, timeout=30)) > 0})
        except grpc.RpcError as error:
            answer = {"code": error.code().name}
            if details:
                answer["details"] = error.details()
            self.emit(name, answer)

    def stream(self, name, call, count, mask=()):
        """The next answers of a stream."""
        for index in range(count):
            try:
                self.emit(f"{name} {index}", shown(next(call), mask))
            except StopIteration:
                self.emit(f"{name} {index}", "end")
                return
            except grpc.RpcError as error:
                self.emit(f"{name} {index}", {"code": error.code().name, "details": error.details()})
                return

    def wait_until(self, condition, seconds=10):
        end = time.time() + seconds
        while not condition():
            if time.time() > end:
                raise TimeoutError("the condition didn't become true")
            time.sleep(0.02)


def shown(message, mask=()):
    fields = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return masked(fields, set(mask))


def masked(value, mask):
    if isinstance(value, list):
        return [masked(entry, mask) for entry in value]
    if not isinstance(value, dict):
        return value
    result = {}
    for name, entry in value.items():
        if name == "header":
            # Nested headers are empty but for a revision.
            result[name] = {
                "revision": entry.get("revision", "0"), "has ids": "cluster_id" in entry and "member_id" in entry,
                "has term": "raft_term" in entry}
        elif name in mask:
            result[name] = "<masked>"
        else:
            result[name] = masked(entry, mask)
    return result


def put(key, value=b"", **more):
    return rpc.PutRequest(key=key, value=value, **more)


def get(key, range_end=b"", **more):
    return rpc.RangeRequest(key=key, range_end=range_end, **more)


def delete(key, range_end=b"", **more):
    return rpc.DeleteRangeRequest(key=key, range_end=range_end, **more)


def op(request):
    """A request as an operation of a transaction."""
    names = {rpc.PutRequest: "request_put", rpc.RangeRequest: "request_range",
             rpc.DeleteRangeRequest: "request_delete_range", rpc.TxnRequest: "request_txn"}
    return rpc.RequestOp(**{names[type(request)]: request})


def txn(compare=(), success=(), failure=()):
    return rpc.TxnRequest(
        compare=compare, success=[op(request) for request in success],
        failure=[op(request) for request in failure])
