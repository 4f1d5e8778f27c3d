"""The scenarios of streams_script.py that are about consumer groups; it says how they are written."""

SCENARIOS = {
    'xgroup': '''
        XGROUP CREATE none g $
        XGROUP CREATE none g 0
        XGROUP CREATE a g $ MKSTREAM
        XLEN a
        XGROUP CREATE a g $ MKSTREAM
        XGROUP CREATE a g 0
        XGROUP CREATE a h 0 mkstream
        XADD a 1-1 n 1
        XADD a 1-2 n 2
        XGROUP CREATE a mid 1-1
        XGROUP CREATE a end $
        XGROUP CREATE a far 9-9
        XGROUP CREATE a gap 1
        !reads,ids XINFO GROUPS a
        XREADGROUP GROUP mid c STREAMS a >
        XREADGROUP GROUP end c STREAMS a >
        XREADGROUP GROUP far c STREAMS a >
        XGROUP SETID a mid 0
        XREADGROUP GROUP mid c STREAMS a >
        XGROUP SETID a mid $
        XREADGROUP GROUP mid c STREAMS a >
        XGROUP SETID a mid 1-1
        XREADGROUP GROUP mid c COUNT 1 STREAMS a >
        XGROUP SETID a none 0
        XGROUP SETID none g 0
        XGROUP CREATECONSUMER a g one
        XGROUP CREATECONSUMER a g one
        XGROUP CREATECONSUMER a none one
        XGROUP CREATECONSUMER none g one
        !inactive XINFO CONSUMERS a g
        XREADGROUP GROUP g one COUNT 1 STREAMS a >
        XGROUP DELCONSUMER a g one
        XGROUP DELCONSUMER a g one
        XGROUP DELCONSUMER a none one
        XGROUP DELCONSUMER none g one
        XPENDING a g
        XGROUP DESTROY a g
        XGROUP DESTROY a g
        XGROUP DESTROY none g
        XREADGROUP GROUP g one STREAMS a >
        XGROUP CREATE a g 0 ENTRIESREAD 1
        XGROUP CREATE a e 0 ENTRIESREAD x
        XGROUP CREATE a e 0 ENTRIESREAD -2
        XGROUP SETID a g 0 ENTRIESREAD 2
    ''',
    'xgroup errors': '''
        XADD a 1-1 f v
        XGROUP
        !help XGROUP HELP
        XGROUP BOGUS
        XGROUP BOGUS a g
        XGROUP CREATE
        XGROUP CREATE a
        XGROUP CREATE a g
        XGROUP CREATE a g x
        XGROUP CREATE a g -
        XGROUP CREATE a g +
        XGROUP CREATE a g2 1-x
        XGROUP CREATE none g x
        XGROUP CREATE none g x MKSTREAM
        XGROUP CREATE a g3 0 BOGUS
        XGROUP CREATE a g4 0 MKSTREAM BOGUS
        XGROUP SETID a
        XGROUP SETID a g
        !first XGROUP SETID a g x
        !first XGROUP SETID a none x
        XGROUP SETID a g 0 MKSTREAM
        XGROUP DESTROY a
        XGROUP DESTROY a g h
        XGROUP DELCONSUMER a g
        XGROUP DELCONSUMER a g c d
        XGROUP CREATECONSUMER a g
    ''',
    'xreadgroup': '''
        XGROUP CREATE a g 0 MKSTREAM
        XADD a 1-1 n 1
        XADD a 1-2 n 2
        XADD a 1-3 n 3
        XADD a 1-4 n 4
        XADD a 1-5 n 5
        XREADGROUP GROUP g alice COUNT 1 STREAMS a >
        XREADGROUP GROUP g bob COUNT 2 STREAMS a >
        XREADGROUP GROUP g alice STREAMS a >
        XREADGROUP GROUP g alice STREAMS a >
        XREADGROUP GROUP g alice STREAMS a 0
        XREADGROUP GROUP g alice COUNT 1 STREAMS a 0
        XREADGROUP GROUP g alice COUNT 1 STREAMS a 1-1
        XREADGROUP GROUP g alice STREAMS a 1-4
        XREADGROUP GROUP g alice STREAMS a 1-5
        XREADGROUP GROUP g alice STREAMS a 9
        XREADGROUP GROUP g bob STREAMS a 0
        XREADGROUP GROUP g carol STREAMS a 0
        XREADGROUP GROUP g carol STREAMS a >
        !inactive,consumers XINFO CONSUMERS a g
        XACK a g 1-1
        XREADGROUP GROUP g alice STREAMS a 0
        XDEL a 1-4
        XREADGROUP GROUP g alice STREAMS a 0
        XPENDING a g
        !history XPENDING a g - + 10
        XADD a 2-1 n 6
        XREADGROUP GROUP g alice NOACK STREAMS a >
        XPENDING a g
        XADD a 2-2 n 7
        XREADGROUP GROUP g bob BLOCK 10 STREAMS a >
        XREADGROUP GROUP g bob BLOCK 10 STREAMS a >
        XREADGROUP GROUP g bob BLOCK 10 STREAMS a 0
        XREADGROUP GROUP g bob COUNT 0 STREAMS a 0
        XREADGROUP GROUP g bob COUNT -1 STREAMS a 0
        XREADGROUP COUNT 10 GROUP g bob STREAMS a 0
        xreadgroup group g bob count 1 noack block 10 streams a >
        XREADGROUP GROUP g bob COUNT 1 NOACK STREAMS a 0
        !consumers XINFO GROUPS a
        XREADGROUP GROUP g alice STREAMS a $
    ''',
    'xreadgroup of several streams': '''
        XGROUP CREATE a g 0 MKSTREAM
        XGROUP CREATE b g 0 MKSTREAM
        XADD a 1-1 n 1
        XADD b 1-1 m 1
        XADD b 1-2 m 2
        !several XREADGROUP GROUP g c COUNT 1 STREAMS a b > >
        !several XREADGROUP GROUP g c STREAMS a b > >
        !several XREADGROUP GROUP g c STREAMS a b 0 0
        !several XREADGROUP GROUP g c STREAMS a b > 0
        !several XREADGROUP GROUP g c BLOCK 10 STREAMS a b > >
        !several XREADGROUP GROUP g c STREAMS a none > >
        !several XREADGROUP GROUP h c STREAMS a b > >
    ''',
    'xreadgroup errors': '''
        XADD a 1-1 n 1
        XGROUP CREATE a g 0
        XREADGROUP
        XREADGROUP GROUP g c
        XREADGROUP GROUP g c STREAMS a
        XREADGROUP GROUP g c STREAMS
        !words XREADGROUP GROUP g c STREAMS a b >
        XREADGROUP GROUP g c STREAMS a x
        XREADGROUP GROUP g c STREAMS a -
        XREADGROUP GROUP none c STREAMS a >
        XREADGROUP GROUP none c STREAMS a 0
        XREADGROUP GROUP g c STREAMS none >
        XREADGROUP GROUP g c STREAMS none 0
        XREADGROUP GROUP none c BLOCK 10 STREAMS a >
        XREADGROUP GROUP g c COUNT x STREAMS a >
        XREADGROUP GROUP g c BLOCK x STREAMS a >
        XREADGROUP GROUP g c BLOCK -1 STREAMS a >
        XREADGROUP GROUP g c BOGUS STREAMS a >
        XREADGROUP COUNT 1 NOACK STREAMS a >
        XREADGROUP COUNT 1 NOACK BLOCK 1 STREAMS a >
        XREADGROUP GROUP g STREAMS a >
    ''',
    'xreadgroup blocks': '''
        XGROUP CREATE a g $ MKSTREAM
        @r& XREADGROUP GROUP g c BLOCK 10000 STREAMS a >
        XADD a 1-1 n 1
        ... r
        @r& XREADGROUP GROUP g c BLOCK 0 COUNT 5 STREAMS a >
        XADD a 1-2 n 2
        ... r
        @r& XREADGROUP GROUP g c BLOCK 0 NOACK STREAMS a >
        XADD a 1-3 n 3
        ... r
        XPENDING a g - + 10
    ''',
    'xack': '''
        XADD a 1-1 n 1
        XADD a 1-2 n 2
        XADD a 1-3 n 3
        XGROUP CREATE a g 0
        XREADGROUP GROUP g c COUNT 2 STREAMS a >
        XACK a g 1-1
        XACK a g 1-1
        XACK a g 1-2 1-3 9-9
        XACK a g 1-2 1-2
        XACK a none 1-1
        XACK none g 1-1
        XACK a g
        XACK a
        XACK a g x
        XACK a g 1-2 x
        XACK none g x
        XPENDING a g
        XREADGROUP GROUP g c STREAMS a >
        XACK a g 1-3 1-3
    ''',
    'xpending': '''
        XADD a 1-1 n 1
        XADD a 1-2 n 2
        XADD a 1-3 n 3
        XADD a 2-1 n 4
        XGROUP CREATE a g 0
        XPENDING a g
        XPENDING a g - + 10
        XREADGROUP GROUP g zoe COUNT 2 STREAMS a >
        XREADGROUP GROUP g bob COUNT 2 STREAMS a >
        XPENDING a g
        XPENDING a g - + 10
        XPENDING a g - + 10 zoe
        XPENDING a g - + 10 bob
        XPENDING a g - + 10 none
        XPENDING a g - + 1
        XPENDING a g - + 0
        XPENDING a g - + -1
        XPENDING a g 1-2 1-3 10
        XPENDING a g 1 1 10
        XPENDING a g (1-1 (2-1 10
        XPENDING a g (1-2 + 10 bob
        XPENDING a g + - 10
        XPENDING a g IDLE 0 - + 10
        XPENDING a g IDLE 100000000 - + 10
        XPENDING a g idle 0 - + 10 bob
        XPENDING
        XPENDING a
        XPENDING a g -
        XPENDING a g - +
        XPENDING a g - + x
        XPENDING a g x + 10
        XPENDING a g - x 10
        XPENDING a g - + 10 bob more
        XPENDING a g IDLE x - + 10
        XPENDING a g IDLE -1 - + 10
        XPENDING a g IDLE 0
        XPENDING a g IDLE 0 - +
        XPENDING a none
        XPENDING a none - + 10
        XPENDING none g
        XPENDING none g - + 10
        XPENDING none g x + 10
    ''',
    'xclaim': '''
        XADD a 1-1 n 1
        XADD a 1-2 n 2
        XADD a 1-3 n 3
        XADD a 1-4 n 4
        XGROUP CREATE a g 0
        XREADGROUP GROUP g bob COUNT 3 STREAMS a >
        XCLAIM a g alice 0 1-1
        XCLAIM a g alice 100000000 1-2
        XCLAIM a g alice 0 1-2 1-3 JUSTID
        XPENDING a g - + 10
        XCLAIM a g alice 0 1-4
        XCLAIM a g alice 0 1-4 FORCE
        XCLAIM a g alice 0 9-9 FORCE
        XCLAIM a g bob 0 1-1 RETRYCOUNT 7
        XCLAIM a g bob 0 1-2 IDLE 50000
        XPENDING a g IDLE 40000 - + 10
        XCLAIM a g bob 0 1-3 TIME 1000 JUSTID
        XPENDING a g IDLE 40000 - + 10
        XCLAIM a g bob 0 1-3 LASTID 1-4
        XCLAIM a g carol 0 1-1 1-2 1-3 1-4
        XPENDING a g
        !forced XPENDING a g - + 10
        XDEL a 1-2
        XCLAIM a g bob 0 1-1 1-2
        !forced XPENDING a g - + 10
        XCLAIM a g bob -5 1-1
        XCLAIM a g bob 0 1-1 IDLE -1
        !inactive XINFO CONSUMERS a g
        XCLAIM a g newcomer 0 9-9
        !inactive XINFO CONSUMERS a g
        XCLAIM a none bob 0 1-1
        XCLAIM none g bob 0 1-1
        XCLAIM a g bob x 1-1
        XCLAIM a g bob 0 x
        XCLAIM a g bob 0 1-1 x
        XCLAIM a g bob 0 1-1 BOGUS
        XCLAIM a g bob 0 1-1 IDLE
        XCLAIM a g bob 0 1-1 IDLE x
        XCLAIM a g bob 0 1-1 TIME x
        XCLAIM a g bob 0 1-1 RETRYCOUNT x
        XCLAIM a g bob 0 1-1 RETRYCOUNT -1
        XCLAIM a g bob 0 1-1 LASTID x
        XCLAIM a g bob 0
        XCLAIM a g bob
        XCLAIM a
        XCLAIM a g bob 0 FORCE
    ''',
    'xautoclaim': '''
        XADD a 1-1 n 1
        XADD a 1-2 n 2
        XADD a 1-3 n 3
        XADD a 1-4 n 4
        XADD a 1-5 n 5
        XGROUP CREATE a g 0
        XAUTOCLAIM a g alice 0 0
        XREADGROUP GROUP g bob COUNT 4 STREAMS a >
        XAUTOCLAIM a g alice 0 0 COUNT 1
        XAUTOCLAIM a g alice 0 1-2 COUNT 1
        XAUTOCLAIM a g alice 0 (1-2 COUNT 1
        XAUTOCLAIM a g alice 0 0 COUNT 2 JUSTID
        XAUTOCLAIM a g alice 0 -
        XAUTOCLAIM a g alice 0 9
        XAUTOCLAIM a g alice 100000000 0
        XPENDING a g - + 10
        XREADGROUP GROUP g bob STREAMS a >
        XDEL a 1-2 1-4
        XAUTOCLAIM a g carol 0 0
        XAUTOCLAIM a g carol 0 0
        XPENDING a g - + 10
        XAUTOCLAIM a g carol -1 0 COUNT 1
        XAUTOCLAIM a none bob 0 0
        XAUTOCLAIM none g bob 0 0
        XAUTOCLAIM a g bob x 0
        XAUTOCLAIM a g bob 0 x
        XAUTOCLAIM a g bob 0 0 COUNT 0
        XAUTOCLAIM a g bob 0 0 COUNT -1
        XAUTOCLAIM a g bob 0 0 COUNT x
        XAUTOCLAIM a g bob 0 0 COUNT
        XAUTOCLAIM a g bob 0 0 BOGUS
        XAUTOCLAIM a g bob 0
        XAUTOCLAIM a
        XAUTOCLAIM none g bob x 0
    ''',
}
