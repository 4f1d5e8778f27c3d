"""The X* commands that test_streams.py sends to a Redis server and to Synaxis: scenarios with keys of their own, as one types them.

What may stand in front of a command: '@name& ' sends it on a connection of that name without waiting for its reply, '... name' reads that;
'~ ' repeats it on Synaxis until its reply is Redis'; '!difference,... ' says that replies differ in what test_streams.py's table knows under
that name. A word in double quotes may be empty.
"""
import streams_script_groups

SCENARIOS = {
    'xadd': '''
        XADD a * f v
        XADD a * f v g w
        XLEN a
        XRANGE a - +
        XADD b 5-1 f v
        XADD b 5-1 f v
        XADD b 5-0 f v
        XADD b 4-9 f v
        XADD b 5-* f v
        XADD b 5-* f v
        XADD b 6 f v
        XADD b 7-* f v
        XADD b 6-* f v
        XADD b 0-0 f v
        XADD b 0 f v
        XADD b 0-* f v
        XADD bb 0-* f v
        XADD bb 0-0 f v
        XADD bb 0-1 f v
        XADD bb 0-5 f v
        XADD b * f v
        XADD b 9-9 f v
        XADD b 18446744073709551615-18446744073709551615 f v
        !last XADD b 18446744073709551615-* f v
        !last XADD b * f v
        XADD c 1-1 "" ""
        XADD c 1-2 f f f g
        XRANGE c - +
        XADD d NOMKSTREAM * f v
        XADD d nomkstream 1-1 f v
        XLEN d
        XADD d 1-1 f v
        XADD d NOMKSTREAM 1-2 f v
        XLEN d
    ''',
    'xadd errors': '''
        XADD
        XADD a
        XADD a *
        XADD a * f
        XADD a * f v g
        XADD a 1-1
        XADD a 1-1 f
        XADD a abc f v
        XADD a 1-x f v
        XADD a x-1 f v
        XADD a -1 f v
        XADD a 1-1-1 f v
        XADD a 1- f v
        XADD a - f v
        XADD a + f v
        XADD a ( f v
        XADD a "" f v
        XADD a *-1 f v
        XADD a 01-01 f v
        XADD a 18446744073709551616 f v
        XADD a 1-18446744073709551616 f v
        XADD a MAXLEN * f v
        XADD a MAXLEN x * f v
        XADD a MAXLEN -1 * f v
        XADD a MAXLEN ~ -1 * f v
        XADD a MAXLEN = x * f v
        XADD a MINID x * f v
        XADD a MINID - 3-1 f v
        XADD a MAXLEN 1 MINID 1 * f v
        XADD a MAXLEN 1 MAXLEN 2 2-2 f v
        XADD a MINID 1 MINID 1 2-3 f v
        XADD a MAXLEN 5 LIMIT 10 * f v
        XADD a MAXLEN = 5 LIMIT 10 * f v
        XADD a MAXLEN ~ 5 LIMIT x * f v
        XADD a MAXLEN ~ 5 LIMIT -1 * f v
        XADD a LIMIT 5 * f v
        XADD a BOGUS * f v
        XADD a NOMKSTREAM
        XADD a MAXLEN 5
        XADD a MAXLEN 5 f v
        XADD a MAXLEN 10 5-5 f
        XLEN a
    ''',
    'xadd trims': '''
        XADD a 1-1 f v
        XADD a 1-2 f v
        XADD a 1-3 f v
        XADD a MAXLEN 3 1-4 f v
        XRANGE a - +
        XADD a MAXLEN = 2 1-5 f v
        XRANGE a - +
        XADD a maxlen 0 1-6 f v
        XLEN a
        XINFO STREAM a
        XADD a 2-1 f v
        XADD a 2-2 f v
        XADD a 2-3 f v
        XADD a MINID 2-2 2-4 f v
        ~ XRANGE a - +
        XADD a MINID = 2-4 2-5 f v
        ~ XRANGE a - +
        XADD b 1-1 f v
        XADD b MAXLEN ~ 100 1-2 f v
        XADD b MINID ~ 1-1 1-3 f v
        XADD b MAXLEN ~ 100 LIMIT 50 1-4 f v
        XLEN b
        XADD b MAXLEN ~ 2 1-5 f v
        !exact XLEN b
        XADD n NOMKSTREAM MAXLEN 5 1-1 f v
        XLEN n
    ''',
    'xlen, xdel': '''
        XLEN none
        XLEN
        XLEN a b
        XADD a 1-1 f v
        XADD a 1-2 f v
        XADD a 1-3 f v
        XADD a 2-0 f v
        XDEL a 1-2
        XDEL a 1-2
        XDEL a 1-1 1-3 9-9
        XLEN a
        XDEL a 2
        XLEN a
        XRANGE a - +
        XADD a 1-9 f v
        XADD a 2-1 f v
        XDEL none 1-1
        XDEL a
        XDEL a x
        XDEL a 1-1 x
        XDEL a - +
        XDEL a 2-1 2-1
        XINFO STREAM a
    ''',
    'xrange': '''
        XADD a 1-1 n 1
        XADD a 1-2 n 2
        XADD a 1-3 n 3
        XADD a 2-0 n 4
        XADD a 2-1 n 5
        XADD a 3-0 n 6
        XRANGE a - +
        XRANGE a - + COUNT 2
        XRANGE a - + count 0
        XRANGE a - + COUNT -1
        XRANGE a - + COUNT -5
        XRANGE a - + COUNT x
        XRANGE a - + COUNT
        XRANGE a - + BOGUS 3
        XRANGE a - + COUNT 2 COUNT 3
        XRANGE a - + COUNT 100
        XRANGE a 1 1
        XRANGE a 1 2
        XRANGE a 1-2 2-0
        XRANGE a 2 +
        XRANGE a (1-2 +
        XRANGE a (1 +
        XRANGE a - (2-0
        XRANGE a - (2
        XRANGE a (1-1 (2-1
        XRANGE a (1-1 (2-1 COUNT 1
        XRANGE a 3 1
        XRANGE a + -
        XRANGE a + +
        XRANGE a (- +
        XRANGE a - (+
        XRANGE a ( +
        XRANGE a (18446744073709551615-18446744073709551615 +
        XRANGE a - (0-0
        XRANGE a x +
        XRANGE a - x
        XRANGE a 1-x +
        XRANGE a 1- +
        XRANGE a "" +
        XRANGE a -
        XRANGE a
        XRANGE
        XRANGE none - +
        XRANGE none x +
        XRANGE none - + COUNT x
        XREVRANGE a + -
        XREVRANGE a + - COUNT 2
        XREVRANGE a + - COUNT 0
        XREVRANGE a + - COUNT -1
        XREVRANGE a 2 1
        XREVRANGE a 1 1
        XREVRANGE a (2-0 -
        XREVRANGE a + (2-0
        XREVRANGE a (3-0 (1-1 COUNT 2
        XREVRANGE a - +
        XREVRANGE a x -
        XREVRANGE a + x
        XREVRANGE a (0-0 -
        XREVRANGE a + (18446744073709551615-18446744073709551615
        XREVRANGE a + -  BOGUS 1
        XREVRANGE a +
        XREVRANGE none + -
        XDEL a 2-0
        XRANGE a - +
        XREVRANGE a + - COUNT 3
    ''',
    'xread': '''
        XADD a 1-1 n 1
        XADD a 1-2 n 2
        XADD a 2-1 n 3
        XADD b 1-1 m 1
        XADD b 3-1 m 2
        XREAD STREAMS a 0
        XREAD STREAMS a 0-0
        XREAD STREAMS a 1-1
        XREAD STREAMS a 1
        XREAD STREAMS a 2-1
        XREAD STREAMS a 9
        XREAD STREAMS a $
        XREAD COUNT 1 STREAMS a 0
        XREAD COUNT 2 STREAMS a b 0 0
        XREAD COUNT 0 STREAMS a 0
        XREAD COUNT -1 STREAMS a 0
        XREAD STREAMS a b 0 0
        XREAD STREAMS b a 0 0
        XREAD STREAMS a b 1-1 1-1
        XREAD STREAMS a b 2-1 1-1
        XREAD STREAMS a b 1-1 3-1
        XREAD STREAMS a b $ 0
        XREAD STREAMS a none 0 0
        XREAD STREAMS none a 0 0
        XREAD STREAMS none 0
        XREAD STREAMS none $
        XREAD STREAMS a a 0 1-2
        XREAD BLOCK 10 STREAMS a 0
        XREAD BLOCK 10 STREAMS a $
        XREAD BLOCK 10 STREAMS a 2-1
        XREAD BLOCK 10 STREAMS a b 9 9
        XREAD BLOCK 10 STREAMS a b 9 1-1
        XREAD BLOCK 10 COUNT 1 STREAMS a b 0 0
        XREAD COUNT 1 BLOCK 10 STREAMS a b 0 0
        XREAD BLOCK 10 STREAMS gone $
        XREAD BLOCK 10 STREAMS gone 0
        XLEN gone
        !makes XINFO STREAM gone
        XREAD count 1 block 10 streams a 0
        XDEL a 2-1
        XREAD STREAMS a 1-2
        XREAD BLOCK 10 STREAMS a 1-2
        XADD STREAMS 1-1 f v
        XREAD STREAMS STREAMS 0
    ''',
    'xread errors': '''
        XADD a 1-1 n 1
        XREAD
        XREAD STREAMS
        XREAD STREAMS a
        !words XREAD STREAMS a b 0
        XREAD COUNT 1 a 0
        XREAD a 0 STREAMS
        XREAD COUNT
        XREAD COUNT 1
        XREAD COUNT x STREAMS a 0
        XREAD COUNT STREAMS a 0
        XREAD BLOCK x STREAMS a 0
        XREAD BLOCK -1 STREAMS a 0
        XREAD BLOCK 1.5 STREAMS a 0
        XREAD BOGUS STREAMS a 0
        XREAD NOACK STREAMS a 0
        XREAD GROUP g c STREAMS a 0
        XREAD STREAMS a x
        XREAD STREAMS a >
        XREAD STREAMS a -
        XREAD STREAMS a +
        XREAD STREAMS a 1-x
        XREAD STREAMS a b 0 x
        XREAD STREAMS none x
        XREAD BLOCK 10 STREAMS none x
    ''',
    'xread blocks': '''
        XADD a 1-1 n 1
        @r& XREAD BLOCK 10000 STREAMS a 1-1
        XADD a 1-2 n 2
        ... r
        @r& XREAD BLOCK 0 COUNT 1 STREAMS a b 1-2 0
        XADD b 1-1 m 1
        ... r
        @r& XREAD BLOCK 10000 STREAMS new 0
        XADD new 1-1 f v
        ... r
    ''',
    **streams_script_groups.SCENARIOS,
    'xtrim': '''
        XTRIM none MAXLEN 1
        XADD a 1-1 n 1
        XADD a 1-2 n 2
        XADD a 1-3 n 3
        XADD a 2-1 n 4
        XADD a 2-2 n 5
        XTRIM a MAXLEN 10
        XTRIM a MAXLEN 4
        XTRIM a MAXLEN = 3
        XRANGE a - +
        XTRIM a MINID 2
        XTRIM a MINID = 2-2
        XRANGE a - +
        XTRIM a MINID 2-2
        XTRIM a maxlen 0
        XLEN a
        XADD a 2-2 n 1
        XADD a 3-1 n 1
        XADD a 3-2 n 2
        XADD a 3-3 n 3
        XDEL a 3-2
        XTRIM a MAXLEN 1
        XRANGE a - +
        XTRIM a MAXLEN ~ 100
        XTRIM a MAXLEN ~ 100 LIMIT 10
        XTRIM a MINID ~ 1 LIMIT 0
        XINFO STREAM a
        XTRIM a MAXLEN ~ 0
        XLEN a
        XTRIM
        XTRIM a
        XTRIM a MAXLEN
        XTRIM a MAXLEN x
        XTRIM a MAXLEN -1
        XTRIM a MAXLEN =
        XTRIM a MAXLEN ~
        XTRIM a MINID x
        XTRIM a MINID - 
        XTRIM a MINID +
        XTRIM a BOGUS 5
        XTRIM a MAXLEN 5 LIMIT 5
        XTRIM a MAXLEN ~ 5 LIMIT x
        XTRIM a MAXLEN ~ 5 LIMIT -1
        XTRIM a MAXLEN 5 MINID 5
        XTRIM a MAXLEN 5 BOGUS
        XTRIM a LIMIT 5 MAXLEN ~ 5
        XTRIM none MAXLEN x
    ''',
    'xinfo': '''
        XINFO STREAM none
        XINFO GROUPS none
        XINFO CONSUMERS none g
        XADD a 1-1 n 1
        XADD a 1-2 n 2
        XADD a 1-3 n 3
        XINFO STREAM a
        XINFO GROUPS a
        XINFO CONSUMERS a g
        XGROUP CREATE a g 0
        XGROUP CREATE a b $
        !reads XINFO GROUPS a
        XINFO CONSUMERS a g
        XREADGROUP GROUP g zoe COUNT 1 STREAMS a >
        XREADGROUP GROUP g bob COUNT 1 STREAMS a >
        !reads XINFO GROUPS a
        !inactive XINFO CONSUMERS a g
        XACK a g 1-1
        !reads XINFO GROUPS a
        !inactive XINFO CONSUMERS a g
        XDEL a 1-1
        XINFO STREAM a
        !reads XINFO GROUPS a
        XDEL a 1-3
        XINFO STREAM a
        !reads XINFO GROUPS a
        XADD a 1-4 n 4
        XREADGROUP GROUP g bob STREAMS a >
        !reads XINFO GROUPS a
        XTRIM a MAXLEN 0
        XINFO STREAM a
        !reads XINFO GROUPS a
        !full XINFO STREAM a FULL
        !full XINFO STREAM a FULL COUNT 1
        XINFO
        !help XINFO HELP
        XINFO BOGUS
        XINFO BOGUS a
        XINFO STREAM
        XINFO STREAM a b
        XINFO STREAM a FULL COUNT
        XINFO STREAM a FULL COUNT x
        XINFO GROUPS
        XINFO GROUPS a b
        XINFO CONSUMERS a
        XINFO CONSUMERS a g c
    ''',
    'xsetid': '''
        XSETID none 1-1
        XADD a 1-1 n 1
        XADD a 5-1 n 1
        XSETID a 9-9
        XADD a 9-9 n 2
        XADD a 9-10 n 2
        XSETID a 9-9
        XSETID a 10-0 ENTRIESADDED 20 MAXDELETEDID 4-0
        !deleted XINFO STREAM a
        XSETID a 11 ENTRIESADDED 1 MAXDELETEDID 1-0
        XSETID a 11 ENTRIESADDED 100 MAXDELETEDID 99-0
        XSETID a 11 ENTRIESADDED -1
        XSETID a 11 ENTRIESADDED x MAXDELETEDID 1-0
        XSETID a 11 BOGUS
        XSETID a x
        XSETID a
    ''',
    'what is not a stream': '''
        XADD a 1-1 f v
        !names XADD "" 1-1 f v
        !names XGROUP CREATE a "" 0
        XGROUP CREATE a g 0
        !names XREADGROUP GROUP g "" STREAMS a >
        XDEL a 1-1
        XLEN a
        !delete DEL a
    ''',
    'command getkeys': '''
        COMMAND GETKEYS XADD a * f v
        COMMAND GETKEYS XADD a MAXLEN ~ 5 * f v
        COMMAND GETKEYS XLEN a
        COMMAND GETKEYS XRANGE a - +
        COMMAND GETKEYS XREVRANGE a + -
        !getkeys COMMAND GETKEYS XREAD STREAMS a 0
        !getkeys COMMAND GETKEYS XREAD COUNT 1 BLOCK 5 STREAMS a b c 0 0 0
        !getkeys COMMAND GETKEYS xread streams a b 0 $
        !getkeys COMMAND GETKEYS XREADGROUP GROUP g c STREAMS a >
        !getkeys COMMAND GETKEYS XREADGROUP GROUP g c COUNT 1 BLOCK 1 NOACK STREAMS a b > >
        !getkeys COMMAND GETKEYS XREADGROUP GROUP STREAMS c STREAMS a >
        COMMAND GETKEYS XGROUP CREATE a g 0
        COMMAND GETKEYS XGROUP CREATE a g 0 MKSTREAM
        COMMAND GETKEYS XGROUP SETID a g 0
        COMMAND GETKEYS XGROUP DESTROY a g
        COMMAND GETKEYS XGROUP CREATECONSUMER a g c
        COMMAND GETKEYS XGROUP DELCONSUMER a g c
        COMMAND GETKEYS XACK a g 1-1
        COMMAND GETKEYS XPENDING a g
        COMMAND GETKEYS XCLAIM a g c 0 1-1
        COMMAND GETKEYS XAUTOCLAIM a g c 0 0
        COMMAND GETKEYS XDEL a 1-1
        COMMAND GETKEYS XTRIM a MAXLEN 1
        COMMAND GETKEYS XINFO STREAM a
        COMMAND GETKEYS XINFO GROUPS a
        COMMAND GETKEYS XINFO CONSUMERS a g
        COMMAND GETKEYS XSETID a 1-1
        !getkeys COMMAND GETKEYS XADD
        !getkeys COMMAND GETKEYS XREAD COUNT 1 a 0
        !getkeys COMMAND GETKEYS PING
        COMMAND GETKEYS BOGUS a
    ''',
}
