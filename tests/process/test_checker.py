"""The history checker catches what it is for: each planted violation is named, and a clean history is not."""
import os
import re

from harness import ROOT
from history import Grant, check


def grant(token, called, returned, released, owner='a', release=1, resource='r'):
    return Grant(resource, token, owner, called, returned, 4.0, released, released + 0.1, release)


def test_checker_accepts_a_clean_history():
    assert check([grant(1, 0, 1, 2), grant(2, 0.5, 2.05, 3, 'b'), grant(1, 0, 1, 9, resource='s')]) == []
    assert check([grant(1, 0, 1, 20, release='STALE'), grant(2, 3, 4.5, 5)]) == [], 'a hold ends at its TTL'


def test_checker_believes_no_hold_whose_reply_came_too_late():
    assert check([grant(1, 0, 5, 6), grant(2, 1, 4.5, 5.5, 'b')]) == []


def test_checker_catches_two_holders():
    assert 'hold at once' in check([grant(1, 0, 1, 3), grant(2, 0.5, 2, 4, 'b')])[0]


def test_checker_catches_a_token_that_falls():
    assert 'before token' in check([grant(5, 10, 11, 12), grant(6, 0, 1, 2)])[0]


def test_checker_catches_a_token_given_twice():
    assert 'was given to' in check([grant(5, 0, 1, 2), grant(5, 3, 4, 5, 'b')])[0]


def test_checker_catches_a_lost_acknowledgement():
    assert 'was lost' in check([grant(5, 0, 1, 2, release='STALE')])[0]


def test_the_table_of_bad_input_names_tests_that_exist():
    with open(os.path.join(ROOT, 'docs', 'verification.md'), encoding='utf-8') as stream:
        rows = re.findall(r'^\| (I\d+)? \|(.*)\|(.*)\|(.*)\|$', stream.read(), re.M)
    text = ''
    for folder, _, names in os.walk(os.path.join(ROOT, 'tests')):
        if 'node_modules' not in folder:
            for name in names:
                if name.endswith(('.c', '.py')):
                    with open(os.path.join(folder, name), encoding='utf-8') as stream:
                        text += stream.read()
    tests = set(re.findall(r'^(?:static void|def) (\w+)\(', text, re.M)) | {f'corpus_{n}' for n in os.listdir(os.path.join(ROOT, 'tests/fuzz/corpus'))}
    assert [row for row, *_ in rows if row][:31] == [f'I{n}' for n in range(1, 32)]
    for row, _, _, named in rows:
        assert named.strip() and set(re.findall(r'`(\w+)`', named)) <= tests, (row, set(re.findall(r'`(\w+)`', named)) - tests)
