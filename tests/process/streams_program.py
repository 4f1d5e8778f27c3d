"""streams_program.py PORT: orders pass through a stream as with any Redis server: redis-py's own calls, two workers, one that dies, one that takes over.

It knows nothing of Synaxis; test_streams.py runs it against Redis and against a cluster and compares what it prints."""
import json
import sys
import threading

import redis

ORDERS, STREAM, GROUP = 200, 'orders', 'billing'


def worker(port, name, handled, until):
    """Reads new orders and acknowledges each, until all are handled by anybody."""
    r = redis.Redis(port=port, decode_responses=True)
    while not until.is_set():
        for _, entries in r.xreadgroup(GROUP, name, {STREAM: '>'}, count=7, block=200) or []:
            for entry, fields in entries:
                handled.append((entry, int(fields['number'])))
                r.xack(STREAM, GROUP, entry)  # 0: the heir took it and was quicker
                if len({number for _, number in handled}) == ORDERS:
                    until.set()


def main(port):
    r = redis.Redis(port=port, decode_responses=True)
    said = {}
    assert r.xgroup_create(STREAM, GROUP, id='0', mkstream=True) is True
    try:
        r.xgroup_create(STREAM, GROUP, id='0')
        said['again'] = 'made twice'
    except redis.exceptions.ResponseError as e:
        said['again'] = str(e)

    with r.pipeline(transaction=False) as pipe:
        for number in range(ORDERS // 2):
            pipe.xadd(STREAM, {'number': number, 'item': 'tea'})
        ids = pipe.execute()
    said['ids rise'] = ids == sorted(ids, key=lambda i: tuple(map(int, i.split('-')))) and len(set(ids)) == len(ids)

    [[_, taken]] = r.xreadgroup(GROUP, 'dies', {STREAM: '>'}, count=5)
    said['taken by who dies'] = [fields['number'] for _, fields in taken]
    pending = r.xpending(STREAM, GROUP)
    said['pending'] = [pending['pending'], pending['min'] == ids[0], pending['max'] == ids[4], pending['consumers']]

    handled, until = [], threading.Event()
    threads = [threading.Thread(target=worker, args=(port, name, handled, until), daemon=True) for name in ('one', 'two')]
    for thread in threads:
        thread.start()
    for number in range(ORDERS // 2, ORDERS):
        ids.append(r.xadd(STREAM, {'number': number, 'item': 'coffee'}))
    start, claimed = '0-0', []
    while True:
        start, entries, *_ = r.xautoclaim(STREAM, GROUP, 'heir', 0, start, count=2)
        for entry, fields in entries:
            if fields['item'] == 'tea' and int(fields['number']) < 5:
                claimed.append(int(fields['number']))
                handled.append((entry, int(fields['number'])))
                r.xack(STREAM, GROUP, entry)
            # Others' orders in between stay with the heir, who handles them, too.
            elif r.xack(STREAM, GROUP, entry):
                handled.append((entry, int(fields['number'])))
        if start == '0-0':
            break
    if len({number for _, number in handled}) == ORDERS:
        until.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), 'a worker does not end'
    said['claimed'] = sorted(claimed)
    said['handled'] = sorted({number for _, number in handled}) == list(range(ORDERS))
    said['left'] = r.xpending(STREAM, GROUP)['pending']

    look_and_tidy(r, port, ids, said)
    print(json.dumps(said, indent=1))


def look_and_tidy(r, port, ids, said):
    said['length'] = r.xlen(STREAM)
    said['first'] = [fields for _, fields in r.xrange(STREAM, count=2)]
    said['last'] = [fields for _, fields in r.xrevrange(STREAM, count=2)]
    said['between'] = len(r.xrange(STREAM, min=ids[10], max=ids[19])), len(r.xrange(STREAM, min='(' + ids[10], max=ids[19]))
    said['deleted'] = r.xdel(STREAM, ids[3], ids[4]), r.xlen(STREAM)
    said['trimmed'] = r.xtrim(STREAM, maxlen=50, approximate=False), r.xlen(STREAM)
    info = r.xinfo_stream(STREAM)
    said['info'] = [info['length'], info['groups'], info['last-generated-id'] == ids[-1], info['first-entry'][1], info['last-entry'][1]]
    [group] = r.xinfo_groups(STREAM)
    said['group'] = [group['name'], group['pending'], group['last-delivered-id'] == ids[-1]]
    said['consumers'] = sorted(c['name'] for c in r.xinfo_consumers(STREAM, GROUP))

    def write():
        redis.Redis(port=port).xadd(STREAM, {'number': ORDERS, 'item': 'cake'})
    later = threading.Timer(0.2, write)
    later.start()
    [[name, entries]] = r.xread({STREAM: ids[-1]}, block=10_000)
    later.join()
    said['came while waiting'] = name, [fields for _, fields in entries]
    said['nothing'] = r.xread({STREAM: '$'}, block=50)
    said['consumer gone'] = r.xgroup_delconsumer(STREAM, GROUP, 'dies')
    said['group gone'] = r.xgroup_destroy(STREAM, GROUP)
    said['emptied'] = r.xtrim(STREAM, maxlen=0, approximate=False) > 0, r.xlen(STREAM)


if __name__ == '__main__':
    main(int(sys.argv[1]))
