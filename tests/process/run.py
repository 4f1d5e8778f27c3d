#!/usr/bin/env python3
"""Runs the real-process tests: every test_* function of every test_*.py here, each in a process group of its own.

  tests/process/run.py [--binary PATH] [--jobs N] [--filter TEXT] [--list] [--timeout S] [--slow FACTOR]

Prints one line per test as it ends and, last, 'process tests: N passed, N failed, N skipped'. Exit code 1 when one failed.
"""
import argparse
import concurrent.futures
import importlib
import os
import re
import signal
import subprocess
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
SKIPPED = 77


def list_tests():
    """Names module.function, in file order, found without importing anything."""
    names = []
    for name in sorted(os.listdir(HERE)):
        if name.startswith('test_') and name.endswith('.py'):
            with open(os.path.join(HERE, name), encoding='utf-8') as stream:
                names += [f'{name[:-3]}.{m}' for m in re.findall(r'^def (test_\w+)\(\)', stream.read(), re.M)]
    return names


def run_one(name):
    """In the child: runs the test and exits 0, 1 or 77."""
    sys.path.insert(0, HERE)
    import harness
    module, function = name.split('.')
    try:
        getattr(importlib.import_module(module), function)()
    except harness.Skip as skip:
        print(f'skipped: {skip}')
        return SKIPPED
    except Exception:  # noqa: BLE001 a test may fail in any way; the report is its traceback
        traceback.print_exc(file=sys.stdout)
        return 1
    return 0


def spawn(name, timeout):
    """Runs one test in its own process group; (name, exit code, output, seconds). The group is gone when it returns."""
    begun = time.monotonic()
    child = subprocess.Popen([sys.executable, os.path.abspath(__file__), '--one', name], stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        output, _ = child.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        output, _ = child.communicate()
        output += f'\nno end after {timeout} s'.encode()
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    return name, child.returncode, output.decode('utf-8', 'replace'), time.monotonic() - begun


def run_all(names, jobs, timeout):
    counts = {'passed': 0, 'failed': 0, 'skipped': 0}
    failures = []
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        pending = [pool.submit(spawn, name, timeout) for name in names]
        for done, future in enumerate(concurrent.futures.as_completed(pending), 1):
            name, code, output, seconds = future.result()
            verdict = {0: 'passed', SKIPPED: 'skipped'}.get(code, 'failed')
            counts[verdict] += 1
            why = ' (' + output.strip().splitlines()[-1] + ')' if verdict == 'skipped' and output.strip() else ''
            print(f'[{done}/{len(names)}] {verdict:7} {name} {seconds:.1f} s{why}', flush=True)
            if verdict == 'failed':
                failures.append((name, output.strip().splitlines()[-12:]))
                print('    ' + output.strip().replace('\n', '\n    '), flush=True)
    for name, last_lines in failures:
        print(f'failed: {name}', *last_lines, sep='\n    ')
    print('process tests: {passed} passed, {failed} failed, {skipped} skipped'.format(**counts))
    return 1 if failures else 0


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument('--binary')
    options.add_argument('--jobs', type=int, default=2)
    options.add_argument('--filter', default='')
    options.add_argument('--list', action='store_true')
    options.add_argument('--timeout', type=float, default=180)
    options.add_argument('--slow', type=float, default=1, help='stretch every deadline, for sanitizer builds')
    options.add_argument('--one', help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.one:
        return run_one(chosen.one)
    names = [n for n in list_tests() if re.search(chosen.filter, n)]
    if chosen.list:
        print('\n'.join(names))
        return 0
    if chosen.binary:
        os.environ['SYNAXIS'] = os.path.abspath(chosen.binary)
    os.environ['SYN_TEST_SLOW'] = str(chosen.slow)
    return run_all(names, chosen.jobs, chosen.timeout * chosen.slow)


if __name__ == '__main__':
    sys.exit(main())
