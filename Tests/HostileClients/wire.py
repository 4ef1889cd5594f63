"""HTTP/2 frames, gRPC messages and etcd requests, byte by byte: what no client library would send."""

import socket
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def settings(*pairs):
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in pairs))


def window(stream, increment):
    return frame(WINDOW, 0, stream, struct.pack(">I", increment))


def literal(text):
    """An HPACK string without Huffman coding, shorter than 127 bytes or not."""
    raw = text if isinstance(text, bytes) else text.encode()
    if len(raw) < 127:
        return bytes([len(raw)]) + raw
    rest, encoded = len(raw) - 127, b"\x7f"
    while rest >= 128:
        encoded += bytes([rest % 128 + 128])
        rest //= 128
    return encoded + bytes([rest]) + raw


def head(path):
    """A gRPC call's header block, which touches no dynamic table."""
    return (b"\x83\x86\x04" + literal(path) + b"\x01" + literal("hostile") + b"\x0f\x10"
            + literal("application/grpc") + b"\x00" + literal("te") + literal("trailers"))


def message(payload):
    return b"\x00" + struct.pack(">I", len(payload)) + payload


def field(number, payload):
    """A protobuf field: bytes, or a number."""
    if isinstance(payload, int):
        return varint(number << 3) + varint(payload)
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def varint(value):
    out = b""
    while value >= 128:
        out += bytes([value % 128 + 128])
        value //= 128
    return out + bytes([value])


RANGE = head("/etcdserverpb.KV/Range")
PUT = head("/etcdserverpb.KV/Put")
WATCH = head("/etcdserverpb.Watch/Watch")
# Everything, from the answering member's own state.
RANGE_ALL = message(field(1, b"\0") + field(2, b"\0") + field(7, 1))
WATCH_ALL = message(field(1, field(1, b"\0") + field(2, b"\0")))


def call(stream, block, body, end=True):
    return frame(HEADERS, 4, stream, block) + frame(DATA, 1 if end else 0, stream, body)


def connect(port, timeout=5, receive_buffer=None):
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if receive_buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.settimeout(timeout)
    connection.connect(("127.0.0.1", port))
    return connection


def h2(port, *pairs, **options):
    connection = connect(port, **options)
    connection.sendall(PREFACE + settings(*pairs))
    return connection
