"""Prints the table of figures from raw results (JSON lines of bench/queue.sh and bench/queue_failover.sh): medians over rounds, ratios
and whether each reaches what it must. Usage: queue_table.py FILE..."""
import json
import statistics
import sys


def load(paths):
    rows = []
    for path in paths:
        with open(path, encoding='utf-8') as lines:
            rows += [json.loads(line) for line in lines]
    return rows


def values(rows, system, load_name, pick):
    return [pick(r['result']) for r in rows if r['system'] == system and r.get('load') == load_name]


def rate(result):
    return result['messages_per_s']


def best(rows, system, loads):
    """The rates of the load of which the median is highest: a peer is compared at its best."""
    found = [v for v in (values(rows, system, one, rate) for one in loads) if v]
    return max(found, key=statistics.median) if found else []


def text(found, form='%.0f'):
    if not found:
        return '-'
    middle = form % statistics.median(found)
    return middle if len(found) < 2 else f'{middle} ({form % min(found)}-{form % max(found)})'


def verdict(value, must, aim=None, less_is_better=False):
    if value is None:
        return 'not measured'
    good = (lambda limit: value <= limit) if less_is_better else (lambda limit: value >= limit)
    return 'aim met' if aim is not None and good(aim) else 'must met' if good(must) else 'NOT MET'


RATES = (
    ('publish, 64 connections, one message each; NATS R3', ('publish64',), 'nats', ('publish64',), 2, None),
    ('publish, batches of 64; NATS R3 async', ('batched',), 'nats', ('async',), 4, None),
    ('publish, 4 x 256 in flight, no batches; NATS R3 async', ('pipelined',), 'nats', ('async',), 4, None),
    ('publish, 50 connections x 16; Redis XADD', ('pipe50x16',), 'redis', ('pipe50x16',), 0.5, 1),
    ('publish, 64 in flight; RabbitMQ quorum queue', ('publish64', 'window64'), 'rabbit', ('publish64', 'window64'), 8, None),
    ('consume and acknowledge, one consumer; NATS pull', ('consume',), 'nats', ('consume',), 1.5, None),
    ('the same; NATS, consumer connected to its leader', ('consume',), 'nats', ('at-leader',), 1.5, None),
)


def rate_rows(rows):
    for name, own_loads, peer, peer_loads, must, aim in RATES:
        own, other = best(rows, 'synaxis', own_loads), best(rows, peer, peer_loads)
        value = statistics.median(own) / statistics.median(other) if own and other else None
        yield (name, text(own), text(other), '-' if value is None else f'{value:.2f}x', f'{must}x' + (f' / {aim}x' if aim else ''),
               verdict(value, must, aim))


def latency_rows(rows):
    for percentile, must in (('p50', 1000), ('p99', 3000)):
        own, other = (values(rows, s, 'latency', lambda r, p=percentile: r['latency_us'][p]) for s in ('synaxis', 'nats'))
        yield (f'publish to deliver {percentile} us, 1000 messages/s; NATS', text(own), text(other),
               f'{statistics.median(own) / statistics.median(other):.2f}' if own and other else '-', f'{must} us',
               verdict(statistics.median(own) if own else None, must, None, True))


def cpu_rows(rows):
    for name, own_load, peer, peer_load in (('publish64', 'publish64', 'nats', 'publish64'), ('batched', 'batched', 'nats', 'async'),
                                            ('consume', 'consume', 'nats', 'consume')):
        own, other = (values(rows, s, one, lambda r: r['server_cpu_us_per_message']) for s, one in (('synaxis', own_load), (peer, peer_load)))
        yield (f'server CPU us per message, {name}; {peer}', text(own, '%.1f'), text(other, '%.1f'), '-', '-', '')


def failover_rows(rows):
    times = [r['result']['ms'] for r in rows if r['system'] == 'synaxis' and 'ms' in r['result']]
    if times:
        yield (f'leader killed to next acknowledged publish, median ms of {len(times)}', text(times), '-', '-', '500 ms',
               verdict(statistics.median(times), 500, None, True))


def print_table(table):
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    for number, row in enumerate(table):
        print('  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
        if number == 0:
            print('  '.join('-' * width for width in widths))


def main():
    rows = load(sys.argv[1:])
    table = [('figure', 'synaxis', 'peer', 'ratio', 'must / aim', 'verdict')]
    if any('load' in r for r in rows):
        table += list(rate_rows(rows)) + list(latency_rows(rows)) + list(cpu_rows(rows))
    table += list(failover_rows(rows))
    print_table(table)
    machine = [r['result'] for r in rows if r['system'] == 'machine']
    for key in ('fdatasync_3_us', 'loopback_us') if len(machine) > 1 else ():
        before, after = machine[0][key]['p50'], machine[-1][key]['p50']
        if abs(after - before) > before / 5:
            print(f'note: {key} moved from {before} to {after} us during the run: repeat it on a quieter machine')


main()
