"""A member under attack: does it stay up, within its memory, and do its other clients notice?

    run.py MARTLET MARTLET-BENCH [--seconds N] [--attacks a,b,...] [--memory MiB]

One member, one honest load at 30% of what the member can do at its best here (four gets to a put), and one attack after
the other. Of each: the honest load's p99 before and during it, the member's largest resident memory, the
connections that it ended, and what its log says of them. Ends with status 1 if the member died, outgrew its bound, let
the honest p99 more than double, or kept silent about connections that it ended.
"""

import argparse
import json
import multiprocessing
import os
import pathlib
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from attacks import ATTACKS, Member

# Milliseconds. Below it, twice a p99 is less than the noise of a machine that does other things too.
LEAST_P99 = 4.0


def allow_files():
    """As many open files as this machine allows; a child inherits it."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Store:
    """A member of one, with a port in the clear and one under TLS."""

    def __init__(self, program, folder):
        self.port, self.tls_port, peer = free_port(), free_port(), free_port()
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-subj", "/CN=store", "-keyout", f"{folder}/key", "-out", f"{folder}/crt"], check=True, capture_output=True)
        self.log = f"{folder}/log"
        urls = f"http://127.0.0.1:{self.port},https://127.0.0.1:{self.tls_port}"
        self.process = subprocess.Popen(
            [program, "store", "--name", "a", "--data-dir", f"{folder}/data", "--listen-client-urls", urls,
             "--advertise-client-urls", urls, "--listen-peer-urls", f"http://127.0.0.1:{peer}",
             "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}", "--initial-cluster",
             f"a=http://127.0.0.1:{peer}", "--cert-file", f"{folder}/crt", "--key-file", f"{folder}/key"],
            stderr=open(self.log, "w"), stdout=subprocess.DEVNULL)
        deadline = time.time() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if time.time() > deadline or self.process.poll() is not None:
                    sys.exit("the member did not start:\n" + pathlib.Path(self.log).read_text())
                time.sleep(0.1)

    @property
    def is_alive(self):
        return self.process.poll() is None

    def memory(self, name):
        for line in open(f"/proc/{self.process.pid}/status"):
            if line.startswith(name + ":"):
                return int(line.split()[1]) / 1024
        return 0.0

    def forget_peak(self):
        try:
            pathlib.Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        except OSError:
            pass

    def log_lines(self):
        return pathlib.Path(self.log).read_text(errors="replace").splitlines()


class HonestLoad:
    def __init__(self, program, port, folder):
        self.program, self.port, self.file = program, port, f"{folder}/result.json"

    def run(self, seconds, rate=None):
        command = [self.program, "mixed", "--endpoints", f"127.0.0.1:{self.port}", "--duration", str(seconds),
                   "--connections", "4", "--outstanding", "16", "--key-count", "20000", "--no-fill", "--quiet",
                   "--warm-up", "0.5", "--json", self.file]
        if rate:
            command += ["--rate", str(rate)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds * 4 + 60)
        if done.returncode != 0:
            raise RuntimeError(done.stderr or done.stdout)
        with open(self.file) as file:
            return json.load(file)


def attack(name, size, store, ended, stopping, ready):
    os.nice(10)
    allow_files()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ready.set()
    ATTACKS[name][0](Member(store[0], store[1], size, ended, stopping))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("martlet")
    parser.add_argument("bench")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--attacks", default=",".join(ATTACKS))
    parser.add_argument("--memory", type=float, default=1024, help="the member's bound, in MiB")
    options = parser.parse_args()
    allow_files()
    faults = []
    with tempfile.TemporaryDirectory(prefix="martlet-hostile-") as folder:
        store = Store(options.martlet, folder)
        try:
            load = HonestLoad(options.bench, store.port, folder)
            subprocess.run(
                [options.bench, "put", "--endpoints", f"127.0.0.1:{store.port}", "--total", "20000", "--key-count",
                 "20000", "--keys", "sequential", "--quiet", "--warm-up", "0"], check=True, capture_output=True)
            most = throughput(load.run(4))
            rate = most * 0.3
            print(f"at most {most:.0f} requests/s; the honest load is {rate:.0f}/s")
            print(f"{'attack':20} {'p99 before':>11} {'during':>9} {'peak MiB':>9} {'ended':>7}  log")
            for name in options.attacks.split(","):
                faults += measure(name, store, load, rate, options)
        finally:
            store.process.terminate()
            try:
                status = store.process.wait(30)
                if status != 0:
                    faults.append(f"the member ended with status {status}")
            except subprocess.TimeoutExpired:
                faults.append("the member did not end within 30 s of SIGTERM")
                store.process.kill()
        if faults:
            print("its log ends so:", *store.log_lines()[-10:], sep="\n  ")
    for fault in faults:
        print("FAULT", fault)
    sys.exit(1 if faults else 0)


def throughput(result):
    return result["requests"] / result["seconds"]


def p99(load, seconds, rate):
    """The median of three windows, so that one pause of the machine isn't the member's."""
    return statistics.median(load.run(seconds, rate)["latency"]["p99"] for _ in range(3))


def measure(name, store, load, rate, options):
    before = p99(load, options.seconds / 2, rate)
    store.forget_peak()
    lines = len(store.log_lines())
    ended, stopping, ready = multiprocessing.Value("i", 0), multiprocessing.Event(), multiprocessing.Event()
    process = multiprocessing.Process(
        target=attack, args=(name, ATTACKS[name][1], (store.port, store.tls_port), ended, stopping, ready))
    process.start()
    faults = []
    try:
        ready.wait(10)
        # It takes a while until ten thousand connections or a hundred thousand watches stand.
        time.sleep(6 if ATTACKS[name][1] >= 10_000 else 1.5)
        during = p99(load, options.seconds / 2, rate)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        during = float("inf")
        faults.append(f"{name}: honest clients were not served: {error}")
    finally:
        stopping.set()
        process.join(10)
        if process.is_alive():
            process.kill()
            process.join()
    peak = store.memory("VmHWM") if store.is_alive else float("inf")
    said = [line for line in store.log_lines()[lines:] if "connection" in line]
    print(f"{name:20} {before:8.2f} ms {during:6.2f} ms {peak:9.0f} {ended.value:7}  "
          f"{said[-1][:110] if said else '-'}", flush=True)
    if not store.is_alive:
        return faults + [f"{name}: the member died"]
    if peak > options.memory:
        faults.append(f"{name}: {peak:.0f} MiB, more than {options.memory:.0f}")
    if during > 2 * max(before, LEAST_P99):
        faults.append(f"{name}: the honest p99 went from {before:.2f} to {during:.2f} ms")
    if ended.value and not said:
        faults.append(f"{name}: {ended.value} connections were ended, and the log doesn't say why")
    return faults


if __name__ == "__main__":
    main()
