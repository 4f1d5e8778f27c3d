"""Builds and steers the LD_PRELOAD shim (synfault.c) for one node."""
import os
import shutil
import struct
import subprocess
import tempfile

from harness import BINARY, Skip, wait_for

FIELDS = {'sync_errno': (0, '<i'), 'write_errno': (4, '<i'), 'sync_delay_ms': (8, '<i'), 'limit': (12, '<i'),
          'wall_ms': (16, '<q'), 'monotonic_ms': (24, '<q')}


class Faults:
    """The faults of one node; attach before its start, set() at any time."""

    def __init__(self, node):
        compiler = shutil.which('gcc') or shutil.which('cc')
        if not compiler:
            raise Skip('no C compiler for the fault shim')
        base = os.path.dirname(node.data)
        source = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'synfault.c')
        shim = tempfile.mktemp(prefix='synfault-', suffix='.so', dir=base)
        subprocess.run([compiler, '-shared', '-fPIC', '-O1', '-o', shim, source, '-ldl'], check=True)
        self.path = os.path.join(base, node.name + '.faults')
        with open(self.path, 'wb') as stream:
            stream.write(b'\0' * 64)
        sanitizer = [] if b'libtsan' not in open(BINARY, 'rb').read() else ['tsan']
        if sanitizer:
            raise Skip('the fault shim and the thread sanitizer both replace libc calls')
        node.env.update(LD_PRELOAD=shim, SYNFAULT_CONTROL=self.path, SYNFAULT_UNDER=os.path.realpath(node.data),
                        ASAN_OPTIONS='verify_asan_link_order=0:' + os.environ.get('ASAN_OPTIONS', ''))

    def set(self, **values):
        with open(self.path, 'r+b') as stream:
            for name, value in values.items():
                at, kind = FIELDS[name]
                stream.seek(at)
                stream.write(struct.pack(kind, value))

    def played(self):
        with open(self.path, 'rb') as stream:
            return struct.unpack_from('<q', stream.read(), 32)[0]

    def wait_played(self):
        wait_for('a fault to be played', lambda: self.played() > 0)
