"""Keeps a server on this machine busy until its input ends, and checks every answer.

load.py redis|memcached|http PORT. Prints requests and failures."""

import socket
import sys
import threading
import time

protocol, port = sys.argv[1], int(sys.argv[2])
stop = threading.Event()
done, failed = [0] * 4, []


class Lines:
    def __init__(self, number):
        self.number, self.rounds = number, 0
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.file = self.socket.makefile("rb")

    def ask(self, text):
        self.socket.sendall(text)
        return self.file.readline()

    def redis(self):
        key, value = b"key%d" % self.number, b"%d" % self.rounds
        assert self.ask(b"SET %s %s\r\n" % (key, value)) == b"+OK\r\n"
        assert self.ask(b"GET %s\r\n" % key) == b"$%d\r\n" % len(value)
        assert self.file.readline() == value + b"\r\n"
        assert self.ask(b"INCR counter%d\r\n" % self.number) == b":%d\r\n" % (self.rounds + 1)

    def memcached(self):
        key, value = b"key%d" % self.number, b"%d" % self.rounds
        answer = self.ask(b"set %s 0 0 %d\r\n%s\r\n" % (key, len(value), value))
        assert answer == b"STORED\r\n", answer
        assert self.ask(b"get %s\r\n" % key) == b"VALUE %s 0 %d\r\n" % (key, len(value))
        assert self.file.readline() == value + b"\r\n"
        assert self.file.readline() == b"END\r\n"

    def http(self):
        assert b" 200 " in self.ask(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        length = None
        while (line := self.file.readline()) != b"\r\n":
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        assert self.file.read(length) == b"hello\n"


def work(number):
    try:
        lines = Lines(number)
        act = getattr(lines, protocol)
        while not stop.is_set():
            act()
            lines.rounds += 1
            done[number] += 1
    except Exception as error:  # whatever it is, the server did not serve
        failed.append(repr(error))


def wait_for_server():
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit("the server does not listen")


wait_for_server()
threads = [threading.Thread(target=work, args=(number,)) for number in range(len(done))]
for thread in threads:
    thread.start()
print("ready", flush=True)
for line in sys.stdin:
    print(sum(done), len(failed), *failed[:1], flush=True)
stop.set()
for thread in threads:
    thread.join()
