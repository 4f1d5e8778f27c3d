"""Prints the table of figures from raw results of bench/cache.sh (JSON lines): medians over rounds, and whether each reaches what it must.
Usage: cache_table.py FILE..."""
import json
import statistics
import sys


def load(paths):
    rows = []
    for path in paths:
        with open(path, encoding='utf-8') as lines:
            rows += [json.loads(line) for line in lines]
    return rows


def values(rows, system, load_name, pick, pipeline=None):
    return [pick(r['result']) for r in rows if r['system'] == system and r.get('load') == load_name and r.get('pipeline') == pipeline]


def text(found, form='%.0f'):
    if not found:
        return '-'
    middle = form % statistics.median(found)
    return middle if len(found) < 2 else f'{middle} ({form % min(found)}-{form % max(found)})'


def verdict(value, must, aim=None, less_is_better=False):
    good = (lambda limit: value <= limit) if less_is_better else (lambda limit: value >= limit)
    return 'aim met' if aim is not None and good(aim) else 'must met' if good(must) else 'NOT MET'


RATES = (
    ('GET of a line held locally, 50 connections, P=%d; Redis, no persistence', 'get', ((1, 1, None), (16, 1.2, None), (50, 1.3, None))),
    ('SET back on an owned line, 50 connections, P=%d; Redis, no persistence', 'set', ((1, 0.9, None), (16, 0.9, None))),
    ('SET through, 3 nodes, durable, 50 connections, P=%d; Redis, appendfsync always', 'through', ((1, 0.7, 1), (16, 0.7, 1))),
)


def rate_rows(rows):
    for name, load_name, limits in RATES:
        for pipeline, must, aim in limits:
            own, other = (values(rows, s, load_name, lambda r: r['per_s'], pipeline) for s in ('synaxis', 'redis'))
            if own and other:
                value = statistics.median(own) / statistics.median(other)
                yield (name % pipeline, text(own), text(other), f'{value:.2f}x', f'{must}x' + (f' / {aim}x' if aim else ''), verdict(value, must, aim))


def cpu_rows(rows):
    for _, load_name, limits in RATES:
        for pipeline, _, _ in limits:
            own, other = (values(rows, s, load_name, lambda r: r['server_cpu_us'], pipeline) for s in ('synaxis', 'redis'))
            if own and other:
                yield (f'CPU us of the asked server per command, {load_name} P={pipeline}', text(own, '%.2f'), text(other, '%.2f'),
                       f'{statistics.median(own) / statistics.median(other):.2f}', '-', '')


LATENCIES = (
    ('write to a line that two other nodes share, memory only, p50 us', 'share', 'p50', 150),
    ('write to a line that two other nodes share, memory only, p99 us', 'share', 'p99', 1000),
    ('read of a line that another node has modified, p50 us', 'miss', 'p50', 200),
    ('read of a line that another node has modified, p99 us', 'miss', 'p99', None),
    ('the same write, 3 ms after the last, p50 us', 'share-apart', 'p50', None),
    ('the same read, 3 ms after the last, p50 us', 'miss-apart', 'p50', None),
)


def latency_rows(rows):
    for name, load_name, percentile, must in LATENCIES:
        own = values(rows, 'synaxis', load_name, lambda r, p=percentile: r['latency_us'][p])
        if own:
            value = statistics.median(own)
            yield (name, text(own), '-', '-', f'{must} us' if must else '-', verdict(value, must, None, True) if must else '')


def other_rows(rows):
    for line in values(rows, 'synaxis', 'memory', lambda r: r):
        yield (f'bytes of a line beyond key and value, of {line["lines"]}', str(line['bytes_per_line']), '-', '-', '64',
               verdict(line['bytes_per_line'], 63, None, True))
    times = [r['result']['ms'] for r in rows if r['system'] == 'synaxis' and 'ms' in r['result']]
    if times:
        yield (f'home leader killed to next write on its keys, median ms of {len(times)}', text(times), '-', '-', '2500 ms (lease + 500)',
               verdict(statistics.median(times), 2500, None, True))


def print_table(table):
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    for number, row in enumerate(table):
        print('  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
        if number == 0:
            print('  '.join('-' * width for width in widths))


def main():
    rows = load(sys.argv[1:])
    table = [('figure', 'synaxis', 'redis', 'ratio', 'must / aim', 'verdict')]
    for part in (rate_rows, latency_rows, other_rows, cpu_rows):
        table += list(part(rows))
    print_table(table)
    machine = [r['result'] for r in rows if r['system'] == 'machine']
    for key in ('fdatasync_3_us', 'loopback_us') if len(machine) > 1 else ():
        before, after = machine[0][key]['p50'], machine[-1][key]['p50']
        if abs(after - before) > before / 5:
            print(f'note: {key} moved from {before} to {after} us during the run: repeat it on a quieter machine')


main()
