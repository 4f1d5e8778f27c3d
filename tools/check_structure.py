#!/usr/bin/env python3
"""Holds the tree to its own rules: which room may include which, what a pure room may touch, and sizes.

Rules, by the word a finding carries:
  arrow     an include that points against main -> io -> nodes -> {consensus, storage} -> communication -> utils
  pure      a pure room includes a system header or calls a function that reads a clock, socket, file, environment or dice
  uv        uv.h outside src/io
  file      a source file of more than FILE_LINES_MAX lines
  function  a function of more than FUNCTION_LINES_MAX lines
  head      a .c file that does not open with a comment saying what it is for
  word      the first word of an error reply that is not in the table of error words (src/utils/errors.h)
  marker    a note to do something later
  path      an absolute path of somebody's machine

Usage: tools/check_structure.py [ROOT]      exit code 0: clean, 1: findings, one a line as file:line: rule: text
"""
import ast
import os
import re
import subprocess
import sys

FILE_LINES_MAX = 700
FUNCTION_LINES_MAX = 70

# Room -> rooms it may include. consensus/consensus.h alone is open to those below it: the messages and the log carry its types.
ARROWS = {
    'utils': {'utils'},
    'communication': {'communication', 'utils'},
    'consensus': {'consensus', 'communication', 'utils'},
    'storage': {'storage', 'communication', 'utils'},
    'nodes': {'nodes', 'consensus', 'storage', 'communication', 'utils'},
    'io': {'io', 'nodes', 'consensus', 'storage', 'communication', 'utils'},
    'client': {'client', 'communication', 'utils'},
    'cli': {'cli', 'client', 'communication', 'utils'},
    'main': {'main', 'cli', 'sim', 'client', 'io', 'nodes', 'consensus', 'storage', 'communication', 'utils'},
    'sim': {'sim', 'nodes', 'consensus', 'storage', 'communication', 'utils'},
}
OPEN_HEADERS = {'consensus/consensus.h': {'communication', 'storage'}}
PURE = {'utils', 'communication', 'consensus', 'storage', 'nodes'}
NODE_PARTS = ('locks', 'queue', 'cache')

IMPURE_HEADERS = re.compile(
    r'^(unistd|fcntl|poll|netdb|dirent|signal|time|dlfcn|syslog|termios|spawn|aio|mqueue|semaphore|'
    r'sys/(socket|stat|time|epoll|eventfd|select|random|mman|uio|file|ioctl|resource|wait|un|sendfile|syscall)|'
    r'arpa/.*|netinet/.*|linux/.*|openssl/(bio|ssl|rand)|hiredis/.*|uv|uv/.*)(\.h)?$')
IMPURE_CALLS = re.compile(
    r'(?<![\w.>])(time|clock|clock_gettime|gettimeofday|localtime|localtime_r|gmtime|strftime|nanosleep|usleep|sleep|'
    r'rand|rand_r|random|srand|srandom|drand48|arc4random|getrandom|getenv|secure_getenv|setenv|'
    r'fopen|fdopen|freopen|fread|fwrite|fgets|fscanf|tmpfile|popen|system|open|openat|creat|read|write|pread|pwrite|'
    r'close|socket|connect|accept|bind|listen|send|recv|sendto|recvfrom|select|poll|fork|execve|execvp|kill|'
    r'printf|puts|putchar|scanf|gethostname|getpid|pthread_create|thrd_create)\s*\(')
# The last words of an assertion go to stderr; a build with planted faults asks the environment which one to play.
CALLS_EXEMPT = {'src/utils/assert.c', 'src/utils/mutant.c'}

MARKER = re.compile(r'\b(' + '|'.join(['TO' + 'DO', 'FIX' + 'ME', 'XX' + 'X', 'HA' + 'CK']) + r')\b')
MACHINE_PATH = re.compile(r'(?<![\w.$}])/(' + '|'.join(['wo' + 'rk/', 'ro' + 'ot/', 'ho' + r'me/\w', 'Us' + r'ers/\w']) + ')')
CODE = ('.c', '.h', '.py', '.sh')
TEXT = CODE + ('.md', '.build', '.txt', '.yml', '.yaml', '.json', '.js', '.mjs', '.supp')


ERROR_REPLY = re.compile(r'(?:\b(?:call_error|resp_error)\([^,"]+, "([A-Z]+)"|"-([A-Z]{2,}) )')
ERROR_WORD = re.compile(r'^ +X\(([A-Z]+),', re.M)


def strip_c(text):
    """Comments and literals become blanks of the same length and lines, so that positions stay true."""
    def blank(match):
        return re.sub(r'[^\n]', ' ', match.group(0))
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text, flags=re.S)


def list_files(root):
    """Tracked and new files as git sees them; a plain walk where there is no git."""
    try:
        out = subprocess.run(['git', '-C', root, 'ls-files', '-co', '--exclude-standard'], check=True,
                             capture_output=True, text=True).stdout
        names = out.splitlines()
    except (OSError, subprocess.CalledProcessError):
        names = []
        for folder, folders, files in os.walk(root):
            folders[:] = [f for f in folders if not f.startswith(('.git', 'build')) and f != 'node_modules']
            names += [os.path.relpath(os.path.join(folder, f), root) for f in files]
    return sorted(n for n in names if os.path.isfile(os.path.join(root, n)))


def room_of(name):
    parts = name.split('/')
    if name == 'src/main.c':
        return 'main'
    if parts[0] == 'src' and len(parts) > 2:
        return parts[1]
    return 'sim' if parts[0] == 'sim' else None


def part_of(name):
    """The subsystem of src/nodes/<part>/ that a file belongs to, or None."""
    parts = name.split('/')
    return parts[2] if name.startswith('src/nodes/') and len(parts) > 3 and parts[2] in NODE_PARTS else None


def resolve_include(name, target, files):
    """The tree's file that #include "target" in `name` means, or None for a header of the system or a library."""
    beside = os.path.normpath(os.path.join(os.path.dirname(name), target))
    for candidate in (beside, 'src/' + target, target):
        if candidate in files:
            return candidate
    return None


def check_arrow(name, target, path, found, line):
    room, other = room_of(name), room_of(path)
    if room is None or other is None:
        return
    below = path[len('src/'):] if path.startswith('src/') else path
    if other not in ARROWS.get(room, ()) and room not in OPEN_HEADERS.get(below, ()):
        found(line, 'arrow', f'{room} must not include {other} ({target})')
    mine, theirs = part_of(name), part_of(path)
    if mine and theirs and mine != theirs:
        found(line, 'arrow', f'nodes/{mine} must not include nodes/{theirs} ({target})')
    if mine and other == 'consensus' and below != 'consensus/consensus.h':
        found(line, 'arrow', f'nodes/{mine} must not know a particular consensus ({target})')


def check_c(name, text, files, found):
    room = room_of(name)
    code = strip_c(text)
    for number, line in enumerate(text.splitlines(), 1):
        match = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
        if not match:
            continue
        target = match.group(2)
        path = resolve_include(name, target, files) if match.group(1) == '"' else None
        if path:
            check_arrow(name, target, path, found, number)
        if target == 'uv.h' and room != 'io' and name.startswith('src/'):
            found(number, 'uv', 'only src/io includes uv.h')
        if room in PURE and not path and IMPURE_HEADERS.match(target):
            found(number, 'pure', f'a pure room must not include <{target}>')
    if room in PURE and name not in CALLS_EXEMPT:
        for number, line in enumerate(code.splitlines(), 1):
            for call in IMPURE_CALLS.finditer(line):
                found(number, 'pure', f'a pure room must not call {call.group(1)}()')
    if name.endswith('.c') and not text.startswith('/*'):
        found(1, 'head', 'say at the top what this file is responsible for')
    check_c_functions(code, found)


def read_words(root):
    with open(os.path.join(root, 'src/utils/errors.h'), encoding='utf-8') as stream:
        return set(ERROR_WORD.findall(stream.read()))


def check_words(text, words, found):
    bare = re.sub(r'/\*.*?\*/', lambda comment: '\n' * comment.group(0).count('\n'), text, flags=re.S)
    for number, line in enumerate(bare.splitlines(), 1):
        for match in ERROR_REPLY.finditer(line):
            word = match.group(1) or match.group(2)
            if word not in words:
                found(number, 'word', f'-{word} is not in src/utils/errors.h')


def check_c_functions(code, found):
    """Functions in this tree have their braces alone in column one; nothing else has."""
    start = None
    for number, line in enumerate(code.splitlines(), 1):
        if line.rstrip() == '{':
            start = number
        elif line.rstrip() == '}' and start:
            if number - start - 1 > FUNCTION_LINES_MAX:
                found(start, 'function', f'{number - start - 1} lines, at most {FUNCTION_LINES_MAX}')
            start = None


def check_python_functions(text, found):
    for item in ast.walk(ast.parse(text)):
        if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = item.end_lineno - item.lineno
            if length > FUNCTION_LINES_MAX:
                found(item.lineno, 'function', f'{item.name}: {length} lines, at most {FUNCTION_LINES_MAX}')


def check_file(root, name, files, words, findings):
    def found(line, rule, text):
        findings.append(f'{name}:{line}: {rule}: {text}')
    with open(os.path.join(root, name), encoding='utf-8', errors='replace') as stream:
        text = stream.read()
    lines = text.splitlines()
    if name.endswith(CODE) and len(lines) > FILE_LINES_MAX:
        found(len(lines), 'file', f'{len(lines)} lines, at most {FILE_LINES_MAX}')
    for number, line in enumerate(lines, 1):
        if MARKER.search(line):
            found(number, 'marker', 'finish it, or write it down where it is planned')
        if MACHINE_PATH.search(line):
            found(number, 'path', 'an absolute path of one machine')
    if name.endswith(('.c', '.h')):
        check_c(name, text, files, found)
    if words and name.startswith('src/nodes/'):
        check_words(text, words, found)
    if name.endswith('.py'):
        check_python_functions(text, found)


def check_tree(root):
    names = list_files(root)
    files = set(names)
    findings = []
    words = read_words(root) if 'src/utils/errors.h' in files else set()
    checked = [n for n in names if n.endswith(TEXT) or '.' not in os.path.basename(n)]
    for name in checked:
        if os.path.basename(name) not in ('package-lock.json', 'LICENSE'):
            check_file(root, name, files, words, findings)
    return len(checked), findings


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    count, findings = check_tree(root)
    for line in findings:
        print(line)
    print(f'structure: {count} files, {len(findings)} findings')
    return 1 if findings else 0


if __name__ == '__main__':
    sys.exit(main())
