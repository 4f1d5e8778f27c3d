"""An in-path TCP proxy between peers: cuts, one-way holds, delays, flipped bits, frames cut short, slow links.

CLUSTER_NODES names the proxy's port for every node and PEER_PORT the real one, so every peer connection passes through here.
Who dialled is found from the socket's owner in /proc, so nothing of the peer protocol is known: the proxy sees bytes only.
A rule is set for a direction (source, destination) and applies to open connections from the next chunk on.
"""
import asyncio
import os
import random
import threading

from harness import Cluster, free_port

CHUNK = 65536


class Rule:
    """What happens to bytes in one direction; all off is a clean link."""

    def __init__(self):
        self.hold = False        # bytes wait here, nothing is closed: a silent partition, one-way if set for one direction
        self.refuse = False      # connections are closed and not let in: a partition that resets
        self.delay = (0.0, 0.0)  # seconds, uniform, keeping order as TCP does
        self.flip = 0.0          # probability per chunk that one bit is wrong
        self.truncate = 0.0      # probability per chunk that half of it is sent and the connection closed
        self.bytes_per_s = 0     # slow link
        self.dropped = 0         # chunks harmed, for tests that want to see that the fault happened


def owner_of_port(local_port, pids):
    """The name whose process owns the TCP socket with this local port, or None."""
    inodes = set()
    with open('/proc/net/tcp', encoding='ascii') as table:
        for line in table.readlines()[1:]:
            fields = line.split()
            if int(fields[1].split(':')[1], 16) == local_port and fields[9] != '0':
                inodes.add(f'socket:[{fields[9]}]')
    for name, pid in pids.items():
        try:
            for fd in os.listdir(f'/proc/{pid}/fd'):
                if os.readlink(f'/proc/{pid}/fd/{fd}') in inodes:
                    return name
        except OSError:
            continue
    return None


class Proxy:
    """All links of one cluster, on an event loop in a thread of its own."""

    def __init__(self, names, seed=1):
        self.rules = {(a, b): Rule() for a in names for b in names if a != b}
        self.ports = {name: free_port() for name in names}
        self.targets, self.pids = {}, {}
        self.open = set()
        self.dice = random.Random(seed)
        self.loop = asyncio.new_event_loop()
        self.changed = None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def start(self, cluster):
        self.cluster = cluster
        self.targets = {n.name: n.peer for n in cluster.nodes}
        self.thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self.loop).result(10)

    def stop(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)

    def _run(self):
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    async def _listen(self):
        self.changed = asyncio.Event()
        for name, port in self.ports.items():
            await asyncio.start_server(lambda r, w, name=name: self._serve(name, r, w), '127.0.0.1', port)

    def apply(self, change):
        """Runs change() on the loop and wakes held links."""
        def run():
            change()
            self.changed.set()
            self.changed = asyncio.Event()
        done = threading.Event()
        self.loop.call_soon_threadsafe(lambda: (run(), done.set()))
        done.wait(5)

    def set(self, source, destination, **faults):
        self.apply(lambda: self.rules[(source, destination)].__dict__.update(faults))

    def isolate(self, name, **faults):
        """The same faults on every direction into and out of one node; hold when none is named."""
        for pair in self.rules:
            if name in pair:
                self.set(*pair, **(faults or {'hold': True}))

    def everywhere(self, **faults):
        for pair in self.rules:
            self.set(*pair, **faults)

    def heal(self):
        """Clean links; connections that held bytes are closed, as a real partition leaves them."""
        def clean():
            held = {pair for pair, rule in self.rules.items() if rule.hold}
            for rule in self.rules.values():
                rule.__dict__.update(Rule().__dict__, dropped=rule.dropped)
            for pair, writers in list(self.open):
                if pair in held or pair[::-1] in held:
                    for writer in writers:
                        writer.close()
        self.apply(clean)

    def harmed(self):
        return sum(rule.dropped for rule in self.rules.values())

    async def _serve(self, destination, reader, writer):
        pids = {n.name: n.proc.pid for n in self.cluster.nodes if n.alive()}
        port = writer.get_extra_info('peername')[1]
        source = await self.loop.run_in_executor(None, owner_of_port, port, pids)
        if source is None or source == destination or self.rules[(source, destination)].refuse:
            writer.close()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection('127.0.0.1', self.targets[destination])
        except OSError:
            writer.close()
            return
        entry = ((source, destination), (writer, far_writer))
        self.open.add(entry)
        await asyncio.gather(self._pump((source, destination), reader, far_writer), self._pump((destination, source), far_reader, writer))
        self.open.discard(entry)

    async def _pump(self, pair, reader, writer):
        rule = self.rules[pair]
        try:
            while chunk := await reader.read(CHUNK):
                chunk = await self._harm(rule, chunk, writer)
                writer.write(chunk)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def _harm(self, rule, chunk, writer):
        """Applies the rule to one chunk; returns what is to be sent, raises to close."""
        while rule.hold:
            rule.dropped += 1
            await self.changed.wait()
        if rule.delay[1] > 0:
            await asyncio.sleep(self.dice.uniform(*rule.delay))
        if rule.bytes_per_s:
            await asyncio.sleep(len(chunk) / rule.bytes_per_s)
        if rule.refuse:
            raise ConnectionResetError
        if self.dice.random() < rule.truncate:
            rule.dropped += 1
            writer.write(chunk[:max(1, len(chunk) // 2)])
            raise ConnectionResetError
        if self.dice.random() < rule.flip:
            rule.dropped += 1
            at = self.dice.randrange(len(chunk))
            chunk = chunk[:at] + bytes([chunk[at] ^ (1 << self.dice.randrange(8))]) + chunk[at + 1:]
        return chunk


class ProxiedCluster(Cluster):
    """A cluster whose peer connections all pass through a Proxy, self.proxy."""

    def __init__(self, count=3, env=None):
        names = [f'n{i + 1}' for i in range(count)]
        self.proxy = Proxy(names)
        super().__init__(count, env=env, start=False, listed=lambda name, _: f'{name}@127.0.0.1:{self.proxy.ports[name]}')
        self.proxy.start(self)
        try:
            self.start()
        except BaseException as error:
            self.__exit__(type(error))
            raise

    def __exit__(self, kind, *rest):
        super().__exit__(kind, *rest)
        self.proxy.stop()
