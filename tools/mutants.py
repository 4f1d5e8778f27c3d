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

# What each one breaks. S1-S66 are scenarios in which other systems failed; I, K, N, R and W are rows and invariants of docs/.
WHAT = {
    'S1': 'a read counts acknowledgements of an earlier round',
    'S2': 'a fresh leader answers reads before its no-op is committed',
    'S3': 'a leader counts itself before its own write is durable',
    'S5': 'learners are counted for votes and commit',
    'S7': 'no PreVote and no stickiness',
    'S8': 'granting a pre-vote counts as hearing from a leader',
    'S9': 'a transfer that timed out is never given up',
    'S10': 'members are changed before the term has committed, or twice at once',
    'S11': 'cutting a configuration entry leaves it in force',
    'S13': 'entries of older terms are committed by counting',
    'S14': 'a follower commits past what the message verified',
    'S15': 'a snapshot is acknowledged before it is durable',
    'S17': 'an old write speaks for entries that replaced its own',
    'S19': 'a voter refuses the candidate it voted for when asked again',
    'S21': 'applying depends on something that differs between replicas',
    'S23': 'damage in the middle of the log is cut like a torn tail',
    'S25': 'the rest behind a torn tail is not zeroed',
    'S26': 'a rename is not followed by a sync of the directory',
    'S28': 'a failed sync is tried again, and believed',
    'S29': 'nothing is synced at all',
    'S30': 'blocks of another node, segment or life are accepted',
    'S31': 'a segment may follow one that is missing',
    'S43': 'requests of a session that ended keep waiting',
    'S45': 'the token of a granted lock does not rise',
    'S46': 'readers overtake a waiting writer',
    'S47': 'a request that is asked again is carried out again',
    'S48': 'an upgrade does not look for the deadlock it closes',
    'S48-phantom': 'a cancelled request leaves its edges in the graph',
    'S49a': 'an ended session is kept alive',
    'R6a': 'an append is acknowledged before it is durable',
    'R6b': 'a vote is answered before it is durable',
    'R7': 'the vote is not written',
    'R8': 'the commit index falls',
    'K4': 'a lock is granted to a session that has ended',
    'K5': 'a lock ends although it was renewed meanwhile',
    'K6': 'who comes first is not who is served first',
    'K7': 'a freed lock is not granted to who waits for it',
    'K9': 'a stale lock_id releases another holder',
    'K10': 'the answer of a repeated request is forgotten',
    'K11': 'a cancelled request may still be granted',
    'S50b': 'the generation does not rise when a member dies',
    'S50': 'a claim of an old generation is granted',
    'S51': 'a consumer of an old generation may still settle',
    'S52': 'of several receipts in one request only the last is settled',
    'S53': 'a late acknowledgement settles the delivery of another consumer',
    'S54': 'a message that dies is gone',
    'S55': 'a publish that is tried again is stored twice',
    'S57': 'data that was sent before an invalidation is installed after it',
    'S58': 'the line of a write is owned although it was invalidated since',
    'S59': 'an invalidation is acknowledged by who still waits for data, and forgotten',
    'S60': 'who asks to upgrade is believed to have a copy',
    'S61': 'a dirty owner answers a snoop without its value',
    'S62': 'who does not answer is taken to have answered, though its lease lives',
    'S63': 'an answer to an earlier invalidation counts for the newest',
    'S64': 'a late flush is taken over a newer value',
    'S65': 'a new home begins before the leases of the old one are over',
    'S66': 'the key of an owner that was lost is not fenced',
    'Q1': 'a publish is acknowledged and now and then not stored',
    'Q3': 'now and then an offset is left out',
    'Q4': 'a key has two messages out at once',
    'Q5': 'a delivery is available again before its time is over',
    'Q6': 'an acknowledged message comes again',
    'Q7': 'a redelivery is not counted',
    'Q8': 'a message dies one delivery too late',
    'Q12': 'what only the newest consumer group has read is removed',
    'Q10': 'a new assignment moves everything',
    'N2': 'a copy of a forwarded request or answer is believed',
    'W5': 'what a failed sync left in the page cache is built upon',
    'W7': 'the log is cut before the snapshot that covers it is durable',
    'W9': 'a run of entries does not replace what lay behind it',
    'W12': 'a snapshot counts before the backlog files that it needs are durable',
    'W12-longer': 'a received backlog file takes the place of a longer one',
    'W13': 'a damaged backlog file is taken from a peer',
    'I1': 'a count of arguments is believed, whatever it is',
    'I31': 'JSON may nest as deep as it likes',
    'I31_BODY': 'a body of any length is taken',
    'FRAME_CRC': 'the checksum of a frame is not looked at',
}


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
    for words in (['--work', 'cache', '--seeds', f'1..{max(seeds // 5, 1)}'], ['--seeds', f'1..{seeds}']):
        try:
            done = subprocess.run([found[0], *words, '--quiet'], cwd=ROOT, env=env, capture_output=True, text=True, errors='replace',
                                  timeout=TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            return 'simulator (no end)'
        if done.returncode != 0:
            match = re.search(r'SEED (\d+)', done.stdout + done.stderr)
            return f'simulator, seed {match[1]}' if match else 'simulator'
    return None


def canary(seeds):
    found = [p for p in glob.glob(os.path.join(ROOT, BUILD, '**', 'synaxis-sim'), recursive=True) if os.access(p, os.X_OK)]
    done = subprocess.run([found[0], '--canary', 'sync-lie', '--seeds', f'1..{seeds}', '--quiet'], cwd=ROOT, capture_output=True, check=False)
    return done.returncode == 1


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
    unnamed = set(mutants) - set(WHAT)
    if unnamed:
        parser.error('no word in WHAT for ' + ', '.join(sorted(unnamed)))
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
        print(f'{name:12} {WHAT.get(name, mutants[name]):72} {verdict} ({time.monotonic() - begun:.0f} s)', flush=True)
    total = len(options.names or mutants)
    if not options.names:
        caught = canary(options.seeds)
        total += 1
        survived += [] if caught else ['canary']
        print(f"{'canary':12} {'the disk says that it has synced, and has not':72} {'killed by simulator' if caught else 'SURVIVED'}")
    print(f'mutants: {total - len(survived)} killed, {len(survived)} survived')
    return 1 if survived else 0


if __name__ == '__main__':
    sys.exit(main())
