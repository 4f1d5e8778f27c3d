#!/usr/bin/env python3
"""The mutant table: plants each known fault, one at a time, and shows which test kills it.

  tools/mutants.sh [--seeds N] [NAME ...]    all mutants found in src/ and sim/, or those named

A mutant is a MUTANT("name") in the source: false in every ordinary build, true in a -Dmutants=true build when the environment
says SYN_MUTANT=name. The tests of the mutant's own room run first, then all others, then the simulator, until one fails.
Exit code 1 when a mutant survived, or when a test fails with no mutant planted.
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
BUILD = 'build-mutants'
TIMEOUT_S = 300


def list_mutants():
    """name -> room (src/<room>/...) of its first place, in order of appearance."""
    found = {}
    files = sorted(path for folder in ('src', 'sim') for path in glob.glob(os.path.join(ROOT, folder, '**', '*.[ch]'), recursive=True))
    for path in files:
        name = os.path.relpath(path, ROOT)
        if name == 'src/utils/mutant.h':
            continue
        with open(path, encoding='utf-8') as stream:
            for mutant in re.findall(r'\bMUTANT\("([^"]+)"\)', stream.read()):
                found.setdefault(mutant, name)
    return found


def build():
    if not os.path.exists(os.path.join(ROOT, BUILD, 'build.ninja')):
        subprocess.run(['meson', 'setup', BUILD, '-Dmutants=true', '--buildtype=release'], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(['ninja', '-C', BUILD], cwd=ROOT, check=True)


def suites():
    listing = subprocess.run(['meson', 'introspect', BUILD, '--tests'], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return sorted({suite.split(':')[-1] for test in json.loads(listing) for suite in test['suite']} - {'fuzz'})


def failing_test(mutant, suite):
    """The first test of the suite that fails with the mutant planted, or None."""
    env = dict(os.environ, SYN_MUTANT=mutant)
    try:
        done = subprocess.run(['meson', 'test', '-C', BUILD, '--no-rebuild', '--num-processes', '2', '--maxfail', '1', '--suite', suite],
                              cwd=ROOT, env=env, capture_output=True, text=True, errors='replace', timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return f'{suite} (no end)'
    match = re.search(r'^\s*\d+/\d+\s+(?:\S+ / )?(.+?)\s+(?:FAIL|TIMEOUT|ERROR)\b', done.stdout, re.M)
    return None if done.returncode == 0 else f'{suite} / {match[1]}' if match else suite


def failing_seed(mutant, seeds):
    """'simulator' when a simulator seed catches the mutant, or None."""
    found = [p for p in glob.glob(os.path.join(ROOT, BUILD, '**', 'synaxis-sim'), recursive=True) if os.access(p, os.X_OK)]
    if not found:
        return None
    env = dict(os.environ, SYN_MUTANT=mutant)
    try:
        done = subprocess.run([found[0], '--seeds', f'1..{seeds}', '--quiet'], cwd=ROOT, env=env, capture_output=True, text=True, errors='replace',
                              timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return 'simulator (no end)'
    if done.returncode == 0:
        return None
    match = re.search(r'SEED (\d+)', done.stdout + done.stderr)
    return f'simulator, seed {match[1]}' if match else 'simulator'


def killer(mutant, place, every_suite, seeds):
    room = place.split('/')[1] if place.startswith('src/') else 'sim'
    part = place.split('/')[2] if place.count('/') > 2 else room
    order = sorted(every_suite, key=lambda suite: (suite not in (room, part), suite))
    for suite in order:
        test = failing_test(mutant, suite)
        if test:
            return test
    return failing_seed(mutant, seeds)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seeds', type=int, default=1000)
    parser.add_argument('names', nargs='*')
    options = parser.parse_args()
    mutants = list_mutants()
    unknown = set(options.names) - set(mutants)
    if unknown:
        parser.error('no such mutant: ' + ', '.join(sorted(unknown)))
    build()
    every_suite = suites()
    healthy = killer('', 'src/none/none.c', every_suite, options.seeds)
    if healthy:
        print(f'without any mutant {healthy} fails: repair that first')
        return 1
    survived = []
    for name in options.names or mutants:
        begun = time.monotonic()
        by = killer(name, mutants[name], every_suite, options.seeds)
        survived += [] if by else [name]
        verdict = f'killed by {by}' if by else 'SURVIVED'
        print(f'{name:12} {mutants[name]:36} {verdict} ({time.monotonic() - begun:.0f} s)', flush=True)
    total = len(options.names or mutants)
    print(f'mutants: {total - len(survived)} of {total} were caught')
    return 1 if survived else 0


if __name__ == '__main__':
    sys.exit(main())
