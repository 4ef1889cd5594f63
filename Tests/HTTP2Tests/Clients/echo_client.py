"""Exercises the echo server of GRPCTests with Python's grpcio; prints "all good" at the end."""

import sys
import threading

import grpc

channel = grpc.insecure_channel(
    "127.0.0.1:" + sys.argv[1], options=[("grpc.max_receive_message_length", -1)]
)


def same(data):
    return data


def unary(path):
    return channel.unary_unary(path, request_serializer=same, response_deserializer=same)


def stream(path):
    return channel.stream_stream(path, request_serializer=same, response_deserializer=same)


def fails(call, code, details=None):
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() == code, (error.code(), code)
        assert details is None or error.details() == details, error.details()
        return
    raise AssertionError("no error")


echo = unary("/test.Echo/Unary")
for size in (0, 1, 100, 16_379, 16_380, 100_000, 3_000_000):
    assert echo(b"x" * size, timeout=20) == b"x" * size, size
fails(lambda: unary("/test.Echo/Fail")(b"", timeout=5), grpc.StatusCode.NOT_FOUND, "nö: 100%")
fails(lambda: unary("/test.Echo/Nope")(b"", timeout=5), grpc.StatusCode.UNIMPLEMENTED)
fails(lambda: unary("/test.Echo/Never")(b"", timeout=0.2), grpc.StatusCode.DEADLINE_EXCEEDED)
fails(lambda: echo(b"x" * 5_000_000, timeout=20), grpc.StatusCode.RESOURCE_EXHAUSTED)

messages = [b"", b"a", b"b" * 200_000, b"c" * 2_000_000] * 3
assert list(stream("/test.Echo/Stream")(iter(messages))) == messages

# A stream that is cancelled in the middle, many times.
for _ in range(200):
    gate = threading.Event()

    def endless():
        yield b"one"
        gate.wait()

    call = stream("/test.Echo/Stream")(endless())
    assert next(call) == b"one"
    call.cancel()
    gate.set()

futures = [echo.future(str(i).encode(), timeout=20) for i in range(2_000)]
assert [f.result() for f in futures] == [str(i).encode() for i in range(2_000)]
print("all good")
