"""A RESP2/RESP3 client that is independent of the server's own codec: what it sends and reads is written from the protocol text."""
import socket
import time


class RespError(Exception):
    """An error reply. `word` is the first word (LOCKED, ERR, ...), `text` the whole line."""

    def __init__(self, text):
        super().__init__(text)
        self.text = text
        self.word = text.split(' ', 1)[0]


class Push(list):
    """A RESP3 push message."""


class ProtocolError(Exception):
    """The server sent something that is not RESP."""


def encode(*args):
    """One command as an array of bulk strings."""
    out = [b'*%d\r\n' % len(args)]
    for arg in args:
        raw = arg if isinstance(arg, bytes) else str(arg).encode()
        out.append(b'$%d\r\n%s\r\n' % (len(raw), raw))
    return b''.join(out)


def text(value):
    """Bytes to str all the way down; for comparing and printing."""
    if isinstance(value, bytes):
        return value.decode('utf-8', 'replace')
    if isinstance(value, dict):
        return {text(k): text(v) for k, v in value.items()}
    if isinstance(value, (list, Push)):
        return type(value)(text(v) for v in value)
    return value


class Client:
    """One connection. Replies are Python values; error replies are raised by cmd() and returned by read()."""

    def __init__(self, port, host='127.0.0.1', proto=2, timeout=10.0, password=None):
        self.sock = socket.create_connection((host, port), timeout=timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b''
        self.pushes = []
        self.timeout = timeout
        if proto == 3:
            self.hello = text(self.cmd('HELLO', '3', *(('AUTH', 'default', password) if password else ())))
        elif password:
            self.cmd('AUTH', password)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def send(self, raw):
        self.sock.sendall(raw)

    def cmd(self, *args, timeout=None):
        """Sends one command and returns its reply as str/int/list/dict; raises RespError on an error reply."""
        self.send(encode(*args))
        return self.cmd_reply(timeout)

    def read(self, timeout=None):
        """The next reply; pushes that arrive before it are kept in self.pushes."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            value = self._value(deadline)
            if not isinstance(value, Push):
                return value
            self.pushes.append(text(value))

    def cmd_reply(self, timeout=None):
        """The reply of a command sent earlier with send(), as cmd() would return it."""
        reply = self.read(timeout)
        if isinstance(reply, RespError):
            raise reply
        return text(reply)

    def read_push(self, timeout=5.0):
        """The next push message, kept or new."""
        if self.pushes:
            return self.pushes.pop(0)
        value = self._value(time.monotonic() + timeout)
        if not isinstance(value, Push):
            raise ProtocolError(f'expected a push, got {value!r}')
        return text(value)

    def closed_by_server(self, timeout=5.0):
        """True when the server ends the connection within the timeout; whatever it still sends is put into self.buffer."""
        self.sock.settimeout(timeout)
        deadline = time.monotonic() + timeout
        try:
            while time.monotonic() < deadline:
                chunk = self.sock.recv(65536)
                if not chunk:
                    return True
                self.buffer += chunk
        except socket.timeout:
            return False
        except ConnectionError:
            return True
        return False

    def _fill(self, deadline):
        left = self.timeout if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise socket.timeout('no reply in time')
        self.sock.settimeout(left)  # of every read anew: one with a deadline leaves nothing to the next without
        chunk = self.sock.recv(65536)
        if not chunk:
            raise ConnectionResetError('closed by the server')
        self.buffer += chunk

    def _line(self, deadline):
        while b'\r\n' not in self.buffer:
            self._fill(deadline)
        line, self.buffer = self.buffer.split(b'\r\n', 1)
        return line

    def _bulk(self, size, deadline):
        while len(self.buffer) < size + 2:
            self._fill(deadline)
        raw, end, self.buffer = self.buffer[:size], self.buffer[size:size + 2], self.buffer[size + 2:]
        if end != b'\r\n':
            raise ProtocolError(f'bulk string without its end: {raw[:40]!r}{end!r}')
        return raw

    def _value(self, deadline):
        line = self._line(deadline)
        kind, rest = line[:1], line[1:]
        if kind in (b'+', b'('):
            return int(rest) if kind == b'(' else rest
        if kind == b'-':
            return RespError(rest.decode('utf-8', 'replace'))
        if kind == b':':
            return int(rest)
        if kind == b'_':
            return None
        if kind == b'#':
            return rest == b't'
        if kind == b',':
            return float(rest)
        if kind == b'=':
            return self._bulk(int(rest), deadline)[4:]
        if kind == b'!':
            return RespError(self._bulk(int(rest), deadline).decode('utf-8', 'replace'))
        if kind == b'$':
            return None if rest == b'-1' else self._bulk(int(rest), deadline)
        if kind in (b'*', b'~', b'>'):
            if rest == b'-1':
                return None
            items = [self._value(deadline) for _ in range(int(rest))]
            return Push(items) if kind == b'>' else items
        if kind == b'%':
            pairs = [(self._value(deadline), self._value(deadline)) for _ in range(int(rest))]
            return {k if not isinstance(k, list) else str(k): v for k, v in pairs}
        raise ProtocolError(f'not RESP: {line[:80]!r}')


def as_map(reply):
    """A map reply of either protocol (RESP2 sends it flat) as a dict."""
    if isinstance(reply, dict):
        return reply
    return dict(zip(reply[0::2], reply[1::2]))
