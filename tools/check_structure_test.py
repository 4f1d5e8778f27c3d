#!/usr/bin/env python3
"""Plants one violation of each rule in a small tree and demands that check_structure.py names it, and nothing else."""
import os
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import check_structure  # noqa: E402

HEAD = '/* A file. */\n'
CLEAN = {
    'src/utils/buf.h': '',
    'src/utils/errors.h': '    X(ERR, 400, "what", "todo")\n    X(OOM, 507, "what", "todo")\n',
    'src/consensus/consensus.h': '#include "utils/buf.h"\n',
    'src/consensus/raft.h': '#include "consensus/consensus.h"\n',
    'src/communication/messages.h': '#include "consensus/consensus.h"\n',
    'src/storage/store.h': '#include "consensus/consensus.h"\n',
    'src/nodes/node.h': '#include "consensus/raft.h"\n#include "storage/store.h"\n',
    'src/nodes/locks/lock_sm.h': '#include "utils/buf.h"\n',
    'src/nodes/queue/queue_sm.h': '#include "utils/buf.h"\n',
    'src/io/loop.c': HEAD + '#include <uv.h>\n#include <unistd.h>\n#include "nodes/node.h"\nint x(void)\n{\n    return open("a", 0);\n}\n',
    'src/nodes/base_node.c': HEAD + '#include "nodes/node.h"\n/* time() and open() in a comment, "rand()" in a string */\n'
                                    'const char *s = "open(";\nint t(struct v *v)\n{\n    return v->time(1) + v.open(2);\n}\n',
    'src/main.c': HEAD + '#include "nodes/node.h"\n#include <unistd.h>\n',
    'sim/world.c': HEAD + '#include "nodes/node.h"\n',
}
LONG = HEAD + 'int f(void)\n{\n' + '    ;\n' * 71 + '}\n'
PLANTED = [
    ('arrow', 'src/utils/list.c', HEAD + '#include "consensus/consensus.h"\n'),
    ('arrow', 'src/communication/resp.c', HEAD + '#include "consensus/raft.h"\n'),
    ('arrow', 'src/storage/log.c', HEAD + '#include "nodes/node.h"\n'),
    ('arrow', 'src/consensus/raft.c', HEAD + '#include "storage/store.h"\n'),
    ('arrow', 'src/nodes/queue/queue.c', HEAD + '#include "nodes/locks/lock_sm.h"\n'),
    ('arrow', 'src/nodes/locks/lock_sm.c', HEAD + '#include "consensus/raft.h"\n'),
    ('arrow', 'sim/disk.c', HEAD + '#include "../src/io/loop.h"\n'),
    ('uv', 'src/cli/cli.c', HEAD + '#include <uv.h>\n'),
    ('pure', 'src/nodes/doors/http.c', HEAD + '#include <sys/socket.h>\n'),
    ('pure', 'src/consensus/dice.c', HEAD + 'int d(void)\n{\n    return rand ();\n}\n'),
    ('pure', 'src/storage/clock.c', HEAD + 'int d(void)\n{\n    return time(NULL);\n}\n'),
    ('function', 'src/io/long.c', LONG),
    ('function', 'tools/long.py', 'def f():\n' + '    pass\n' * 71),
    ('word', 'src/nodes/doors/cmd.c', HEAD + 'int f(void)\n{\n    call_error(c, "ERR", "x"); /* "-WORD text" */\n    call_error(c, "FULL", "x");\n}\n'),
    ('word', 'src/nodes/doors/say.c', HEAD + 'const char *s = "-OOM x", *t = "-NONE of ours";\n'),
    ('file', 'src/io/huge.h', '\n' * 701),
    ('head', 'src/io/bare.c', 'int x;\n'),
    ('marker', 'docs/raft.md', 'later: TO' 'DO\n'),
    ('path', 'docs/disk.md', 'see /ro' 'ot/notes\n'),
]


class Planted(unittest.TestCase):
    def findings(self, extra):
        with tempfile.TemporaryDirectory() as root:
            for name, text in {**CLEAN, 'src/io/loop.h': '', **extra}.items():
                path = os.path.join(root, name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, 'w', encoding='utf-8') as stream:
                    stream.write(text)
            return check_structure.check_tree(root)[1]

    def test_clean_tree_has_no_findings(self):
        self.assertEqual(self.findings({}), [])


def planted_test(rule, name, text):
    def test(self):
        found = self.findings({name: text})
        self.assertEqual(len(found), 1, found)
        self.assertRegex(found[0], f'^{name}:[0-9]+: {rule}: ')
    return test


for number, (rule, name, text) in enumerate(PLANTED, 1):
    setattr(Planted, f'test_{number:02d}_{rule}_{os.path.basename(name)}', planted_test(rule, name, text))

if __name__ == '__main__':
    unittest.main()
