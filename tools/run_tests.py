#!/usr/bin/env python3
"""Builds Synaxis and runs all its tests, cheapest first; ends with one line 'N passed, N failed'. Exit code 1 when one failed.

  ./test                  release build: structure, unit and model tests, generated pages, simulator seeds, real processes
  ./test --asan           the same on an AddressSanitizer + UndefinedBehaviorSanitizer build
  ./test --tsan           the threaded shell under ThreadSanitizer: real processes only
  ./test --mutants        the mutant table: plants each known fault and shows which test catches it
  ./test --long           many more simulator seeds
  ./test --filter TEXT    only steps, meson tests and process tests whose name holds TEXT (a regular expression)
"""
import argparse
import glob
import json
import os
import re
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SEEDS, SEEDS_ASAN, SEEDS_LONG = 1500, 60, 50000
CACHE_SHARE = 5  # of as many seeds with locks and queues one is of the cache
PIPED = {'stdout': subprocess.PIPE, 'stderr': subprocess.STDOUT, 'text': True, 'errors': 'replace'}


class Tally:
    """What passed and failed so far, and the names of what failed."""

    def __init__(self):
        self.passed = 0
        self.failed = 0
        self.names = []

    def add(self, passed, failed, name):
        self.passed += passed
        self.failed += failed
        if failed:
            self.names.append(name)


def say(text):
    print(f'== {text}', flush=True)


def run(words, keep=False, **options):
    """Runs a command in the root; its exit code, and its output when kept (else it goes to the terminal as it comes)."""
    if not keep:
        return subprocess.run(words, cwd=ROOT, check=False, **options).returncode, ''
    done = subprocess.run(words, cwd=ROOT, check=False, **PIPED, **options)
    return done.returncode, done.stdout


def stream(words, **options):
    """Runs a command, showing its output as it comes and returning it too."""
    child = subprocess.Popen(words, cwd=ROOT, **PIPED, **options)
    lines = []
    for line in child.stdout:
        print(line, end='', flush=True)
        lines.append(line)
    return child.wait(), ''.join(lines)


def build(variant, tally):
    """Configures and builds one variant; its folder, or None when that failed."""
    folder = {'release': 'build', 'asan': 'build-asan', 'tsan': 'build-tsan'}[variant]
    options = {'release': ['--buildtype=release'],
               'asan': ['--buildtype=debugoptimized', '-Db_sanitize=address,undefined', '-Db_lundef=false'],
               'tsan': ['--buildtype=debugoptimized', '-Db_sanitize=thread', '-Db_lundef=false']}[variant]
    say(f'build ({variant}, in {folder}/)')
    code = 0
    if not os.path.exists(os.path.join(ROOT, folder, 'build.ninja')):
        code, output = run(['meson', 'setup', folder, *options], keep=True)
        if code:
            print('\n'.join(output.splitlines()[-25:]))
    if code == 0:
        code, _ = run(['ninja', '-C', folder])
    tally.add(int(code == 0), int(code != 0), f'build {variant}')
    return folder if code == 0 else None


def structure(tally):
    say('structure')
    code, output = run([sys.executable, 'tools/check_structure.py'], keep=True)
    print(output, end='')
    tally.add(int(code == 0), int(code != 0), 'structure')
    code, output = run([sys.executable, 'tools/check_structure_test.py'], keep=True)
    count = int((re.findall(r'^Ran (\d+) tests', output, re.M) or [1])[0])
    bad = sum(int(n) for n in re.findall(r'(?:failures|errors)=(\d+)', output)) or int(code != 0)
    print(output if code else f'structure: {count} planted violations were found')
    tally.add(count - bad, bad, 'structure, planted violations')


def cases_of(test):
    """Passed and failed cases of one meson test: cmocka's own count where it prints one, else the test is one case."""
    text = (test.get('stdout') or '') + (test.get('stderr') or '')
    passed = sum(int(n) for n in re.findall(r'\[  PASSED  \] (\d+) test', text))
    failed = sum(int(n) for n in re.findall(r'\[  FAILED  \] (?:\w+: )?(\d+) test', text))
    if test['result'] in ('OK', 'EXPECTEDFAIL'):
        return max(passed, 1), 0
    return passed, max(failed, 1)


def meson_tests(folder, options, tally):
    names = []
    if options.filter:
        _, listing = run(['meson', 'test', '-C', folder, '--list', '--no-rebuild'], keep=True)
        matching = [line for line in listing.splitlines() if re.search(options.filter, line) and 'ninja' not in line]
        names = [line.split(' / ')[-1].strip() for line in matching]
        if not names:
            return
    say('unit, transcript and model tests')
    env = dict(os.environ, ASAN_OPTIONS='detect_leaks=1:abort_on_error=0', UBSAN_OPTIONS='halt_on_error=1:print_stacktrace=1')
    log = os.path.join(ROOT, folder, 'meson-logs', 'testlog.json')
    if os.path.exists(log):
        os.remove(log)
    slow = '1' if options.variant == 'release' else '5'
    run(['meson', 'test', '-C', folder, '--no-rebuild', '--num-processes', '2', '--print-errorlogs', '-t', slow, *names], env=env)
    if not os.path.exists(log):
        tally.add(0, 1, 'meson test left no log')
        return
    with open(log, encoding='utf-8') as lines:
        for test in map(json.loads, lines):
            tally.add(*cases_of(test), test['name'])


def simulate(binary, words, wanted, name, tally):
    """Runs seeds, and counts each as one test; `wanted` is how many should run."""
    code, output = stream([binary, *words])
    summary = re.search(r'^(\d+) seeds, (\d+) failed', output, re.M)
    ran, failed = (int(summary[1]), int(summary[2])) if summary else (0, 0)
    bad = re.findall(r'--seed (\d+)', output)
    said = [f"seeds {', '.join(dict.fromkeys(bad))}"] if bad else []
    said += [f'{wanted - ran} seeds were not run'] if ran < wanted else []
    tally.add(ran - failed, max(failed + int(ran < wanted), int(code != 0)), ': '.join([name, ', '.join(said) or f'exit code {code}']))


def simulator(folder, options, tally):
    """Seeds that once failed, a range of seeds, and the canary: a disk that lies about its syncs must be noticed."""
    found = [p for p in glob.glob(os.path.join(ROOT, folder, '**', 'synaxis-sim'), recursive=True) if os.access(p, os.X_OK)]
    if not found:
        return
    say('simulator, seeds that once failed')
    regression = os.path.join(ROOT, 'tests/sim/seeds/regression.txt')
    with open(regression, encoding='utf-8') as lines:
        known = sum(1 for line in lines if line.strip() and not line.startswith('#'))
    simulate(found[0], ['--replay', regression], known, 'simulator, seeds that once failed', tally)
    seeds = SEEDS_LONG if options.long else SEEDS if options.variant == 'release' else SEEDS_ASAN
    say(f'simulator, {seeds} seeds')
    simulate(found[0], ['--seeds', f'1..{seeds}', '--jobs', '2'], seeds, 'simulator', tally)
    share = max(seeds // CACHE_SHARE, 1)
    say(f'simulator, {share} seeds of the cache')
    simulate(found[0], ['--work', 'cache', '--seeds', f'1..{share}', '--jobs', '2'], share, 'simulator, cache', tally)
    code, _ = run([found[0], '--canary', 'sync-lie', '--seeds', '1..200', '--quiet'], keep=True)
    print('simulator: the canary was ' + ('caught' if code == 1 else 'NOT caught'))
    tally.add(int(code == 1), int(code != 1), 'simulator, canary')


def process_tests(folder, options, tally):
    binary = os.path.join(ROOT, folder, 'synaxis')
    if not os.path.exists(binary):
        tally.add(0, 1, f'{folder}/synaxis was not built')
        return
    say('real processes')
    slow = '1' if options.variant == 'release' else '3'
    env = dict(os.environ, TSAN_OPTIONS=f"suppressions={os.path.join(ROOT, 'tests', 'process', 'tsan.supp')}")
    code, output = stream([sys.executable, 'tests/process/run.py', '--binary', binary, '--jobs', '2', '--slow', slow,
                           '--filter', options.filter], env=env)
    match = re.search(r'process tests: (\d+) passed, (\d+) failed', output)
    if not match:
        tally.add(0, 1, f'process tests ended with {code} and no count')
        return
    tally.add(int(match[1]), int(match[2]), 'process tests: ' + ', '.join(re.findall(r'^failed: (\S+)', output, re.M)))


def mutants(tally):
    say('mutants')
    code, output = stream(['tools/mutants.sh'])
    killed, lived = len(re.findall(r'\bkilled by\b', output)), len(re.findall(r'\bSURVIVED\b', output))
    tally.add(killed, max(lived, int(code != 0)), 'mutants')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--asan', dest='variant', action='store_const', const='asan', default='release')
    parser.add_argument('--tsan', dest='variant', action='store_const', const='tsan')
    parser.add_argument('--mutants', action='store_true')
    parser.add_argument('--long', action='store_true')
    parser.add_argument('--filter', default='')
    options = parser.parse_args()
    begun, tally = time.monotonic(), Tally()
    if options.mutants:
        mutants(tally)
    else:
        wanted = re.compile(options.filter)
        if wanted.search('structure'):
            structure(tally)
        folder = build(options.variant, tally)
        if folder:
            if options.variant != 'tsan':
                meson_tests(folder, options, tally)
                if wanted.search('simulator'):
                    simulator(folder, options, tally)
            process_tests(folder, options, tally)
    for name in tally.names:
        print(f'failed: {name}')
    say(f'{time.monotonic() - begun:.0f} s')
    print(f'{tally.passed} passed, {tally.failed} failed', flush=True)
    return 1 if tally.failed or not tally.passed else 0


if __name__ == '__main__':
    sys.exit(main())
