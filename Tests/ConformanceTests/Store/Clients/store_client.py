"""What the scripts here share: stubs generated from the project's own .proto files, and calls shown as text."""

import os
import queue
import subprocess
import sys
import tempfile

import grpc
from google.protobuf import text_format

PROTOS = os.path.join(
    os.path.dirname(os.path.realpath(__file__)), "../../../../Sources/EtcdProto/Protos")


def _generate():
    """Generates the stubs into a folder that goes away, and imports them."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "grpc_tools.protoc", "-I", PROTOS, "--python_out", folder,
             "--grpc_python_out", folder, "auth.proto", "kv.proto", "rpc.proto", "health.proto",
             "v3lock.proto", "v3election.proto"],
            check=True)
        sys.path.insert(0, folder)
        import auth_pb2
        import health_pb2
        import health_pb2_grpc
        import kv_pb2
        import rpc_pb2
        import rpc_pb2_grpc
        import v3election_pb2
        import v3election_pb2_grpc
        import v3lock_pb2
        import v3lock_pb2_grpc
        return (rpc_pb2, rpc_pb2_grpc, kv_pb2, health_pb2, health_pb2_grpc, v3lock_pb2, v3lock_pb2_grpc,
                v3election_pb2, v3election_pb2_grpc, auth_pb2)


rpc, rpc_grpc, kv, health, health_grpc, lock, lock_grpc, election, election_grpc, auth = _generate()


class Client:
    """The services of one endpoint."""

    def __init__(self, endpoint):
        unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self.channel = grpc.insecure_channel(endpoint, options=unlimited)
        self.kv = rpc_grpc.KVStub(self.channel)
        self.watch = rpc_grpc.WatchStub(self.channel)
        self.lease = rpc_grpc.LeaseStub(self.channel)
        self.cluster = rpc_grpc.ClusterStub(self.channel)
        self.maintenance = rpc_grpc.MaintenanceStub(self.channel)
        self.auth = rpc_grpc.AuthStub(self.channel)
        self.lock = lock_grpc.LockStub(self.channel)
        self.election = election_grpc.ElectionStub(self.channel)
        self.health = health_grpc.HealthStub(self.channel)


class Stream:
    """A bidirectional call: requests go in with send, answers come out in order."""

    END = object()

    def __init__(self, method, metadata=None):
        self.requests = queue.Queue()
        self.call = method(iter(self.requests.get, self.END), metadata=metadata)

    def send(self, request):
        self.requests.put(request)

    def receive(self):
        return next(self.call)

    def close(self):
        self.requests.put(self.END)
        self.call.cancel()


def text(message):
    """One line of text; of headers, only the revision."""
    copy = type(message)()
    copy.CopyFrom(message)
    if "header" in copy.DESCRIPTOR.fields_by_name:
        revision = copy.header.revision
        copy.ClearField("header")
        body = text_format.MessageToString(copy, as_one_line=True)
        return f"@{revision} {body}".rstrip()
    return text_format.MessageToString(copy, as_one_line=True)


def show(title, call, *arguments, **keywords):
    """Makes a call and prints its answer, or its error's code and text."""
    try:
        answer = call(*arguments, timeout=10, **keywords)
        print(f"{title}: {text(answer)}".rstrip())
        return answer
    except grpc.RpcError as error:
        print(f"{title}: {error.code().name} {error.details()}")
        return None
