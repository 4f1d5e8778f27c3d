"""Prints the table of figures from raw results (JSON lines of bench/locks.sh and bench/failover.sh): medians over rounds, ratios
and whether each reaches what it must and what it aims at. Usage: table.py FILE..."""
import json
import statistics
import sys


def load(paths):
    rows = []
    for path in paths:
        with open(path, encoding='utf-8') as lines:
            rows += [json.loads(line) for line in lines]
    return rows


def values(rows, system, connections, pick):
    found = [pick(r['result']) for r in rows if r['system'] == system and r.get('connections') == connections]
    return [v for v in found if v is not None]


def median(rows, system, connections, pick):
    found = values(rows, system, connections, pick)
    return statistics.median(found) if found else None


def pairs(result):
    return result['pairs_per_s']


def server_cpu(result):
    return result['server_cpu_us_per_op'] or None


def acquire(percentile):
    return lambda result: result['acquire_us'][percentile]


def ratio(a, b):
    return a / b if a is not None and b else None


def verdict(value, must, aim, less_is_better=False):
    if value is None:
        return 'not measured'
    good = (lambda limit: value <= limit) if less_is_better else (lambda limit: value >= limit)
    return 'aim met' if aim is not None and good(aim) else 'must met' if good(must) else 'NOT MET'


def text(value, form):
    return '-' if value is None else form % value


def spread(rows, system, connections):
    found = values(rows, system, connections, pairs)
    return '' if len(found) < 2 else f' ({min(found):,.0f}-{max(found):,.0f})'


def throughput_rows(rows):
    for connections, peer, must, aim in ((64, 'etcd', 10, 15), (256, 'etcd', 12, 20), (64, 'redis', 0.5, 1)):
        own, other = median(rows, 'synaxis', connections, pairs), median(rows, peer, connections, pairs)
        value = ratio(own, other)
        yield (f'pairs/s, {connections} connections, against {peer}', text(own, '%.0f') + spread(rows, 'synaxis', connections),
               text(other, '%.0f') + spread(rows, peer, connections), text(value, '%.2fx'), f'{must}x / {aim}x', verdict(value, must, aim))


def latency_rows(rows, machine):
    own, other = median(rows, 'synaxis', 64, server_cpu), median(rows, 'etcd', 64, server_cpu)
    value = ratio(other, own)
    yield ('server CPU us per durable operation, 64', text(own, '%.1f'), text(other, '%.1f'), text(value, '1/%.1f'), '1/8 / 1/15',
           verdict(value, 8, 15))
    own, other = median(rows, 'synaxis', 64, acquire('p99')), median(rows, 'etcd', 64, acquire('p99'))
    value = ratio(other, own)
    yield ('acquire p99 us, 64 connections', text(own, '%.0f'), text(other, '%.0f'), text(value, '1/%.1f'), '1/10', verdict(value, 10, None))
    own = median(rows, 'synaxis', 1, acquire('p50'))
    limit = None
    if machine:
        limit = statistics.median([2 * m['loopback_us']['p50'] + m['fdatasync_3_us']['p50'] + 100 for m in machine])
    other = median(rows, 'etcd', 1, acquire('p50'))
    yield ('acquire p50 us, 1 connection', text(own, '%.0f'), text(other, '%.0f'), text(ratio(other, own), '1/%.1f'),
           text(limit, '%.0f us (2L + F3 + 100)'), verdict(own, limit, None, True) if limit else 'not measured')


def failover_rows(rows):
    times = {s: [r['result']['ms'] for r in rows if r['system'] == s and 'ms' in r['result']] for s in ('synaxis', 'etcd')}
    for name, percent, must, aim in (('median', 0.5, 400, 150), ('p99', 0.99, 800, None)):
        at = {s: sorted(v)[min(len(v) - 1, int(len(v) * percent))] if v else None for s, v in times.items()}
        if at['synaxis'] is not None:
            yield (f'leader killed to next grant, {name} ms', f'{at["synaxis"]:.0f} ({len(times["synaxis"])} trials)',
                   text(at['etcd'], '%.0f') + (f' ({len(times["etcd"])})' if times['etcd'] else ''), text(ratio(at['etcd'], at['synaxis']), '1/%.1f'),
                   f'{must} ms' + (f' / {aim} ms' if aim else ''), verdict(at['synaxis'], must, aim, True))


def main():
    rows = load(sys.argv[1:])
    machine = [r['result'] for r in rows if r['system'] == 'machine']
    table = [('figure', 'synaxis', 'peer', 'ratio', 'must / aim', 'verdict')]
    table += list(throughput_rows(rows)) + list(latency_rows(rows, machine)) + list(failover_rows(rows))
    widths = [max(len(row[i]) for row in table) for i in range(6)]
    for number, row in enumerate(table):
        print('  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
        if number == 0:
            print('  '.join('-' * width for width in widths))
    if len(machine) > 1:
        for key in ('fdatasync_3_us', 'loopback_us'):
            before, after = machine[0][key]['p50'], machine[-1][key]['p50']
            if abs(after - before) > before / 5:
                print(f'note: {key} moved from {before} to {after} us during the run: repeat it on a quieter machine')


main()
