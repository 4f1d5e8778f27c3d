"""The commands that test_cache.py sends to a Redis server and to a cluster, each line to the next node: scenarios that begin with nothing, as one types them.

In front of a command: '!difference,... ' says that replies differ in what test_cache.py's table knows under that name. A word in quotes may be empty. WALK is
no command: a whole SCAN, page by page, each page at the next node; all its keys, sorted. GO is none either: it waits until the given key is not there,
SIZE until DBSIZE says so many keys (what has expired counts until it is deleted).
"""

SCENARIOS = {
    'get and set': r'''
        GET a
        SET a 1
        GET a
        GET a
        SET a "" 
        GET a
        STRLEN a
        EXISTS a
        SET a "two words"
        GET a
        SET "" empty
        GET ""
        SET a v XX
        SET none v XX
        EXISTS none
        SET a w NX
        SET b w NX
        MGET a b none
        SET a x GET
        SET none2 x GET
        GET none2
        SET b y NX GET
        SET c y NX GET
        SET d y XX GET
        GET d
        SET a 1 NX XX
        SET a 1 FOO
        SET a 1 EX
        SET a 1 EX 0
        SET a 1 EX -1
        SET a 1 EX abc
        SET a 1 PX 0
        SET a 1 EX 10 PX 10
        SET a 1 EX 10 KEEPTTL
        SET a 1 EXAT -1
        SET a 1 PXAT 0
        SET a 1 EX 9223372036854775807
        GET a
        SETNX a 2
        SETNX n 2
        GET n
        GETSET n 3
        GETSET m 3
        MGET n m
        GETDEL n
        GETDEL n
        EXISTS n
        get m
        GeT m
        SET m 5 xx get
        SET m 6 ex 1000
        TTL m
    ''',
    'wrong arity': r'''
        GET
        GET a b
        SET
        SET a
        SETNX a
        SETNX a b c
        SETEX a 1
        PSETEX a 1
        GETSET a
        GETDEL
        GETDEL a b
        GETEX
        APPEND a
        STRLEN
        STRLEN a b
        SETRANGE a 1
        GETRANGE a 1
        SUBSTR a 1
        INCR
        INCR a 1
        DECR
        INCRBY a
        DECRBY a
        INCRBYFLOAT a
        MGET
        MSET
        MSET a
        MSET a 1 b
        MSETNX
        MSETNX a
        MSETNX a 1 b
        SETBIT a 1
        GETBIT a
        BITCOUNT
        !refused BITCOUNT a 1
        DEL
        UNLINK
        EXISTS
        TOUCH
        TYPE
        TYPE a b
        EXPIRE
        EXPIRE a
        PEXPIRE a
        EXPIREAT a
        PEXPIREAT a
        TTL
        TTL a b
        PTTL
        EXPIRETIME
        PEXPIRETIME
        PERSIST
        PERSIST a b
        RENAME a
        RENAME a b c
        RENAMENX a
        COPY a
        OBJECT
        OBJECT ENCODING
        OBJECT ENCODING a b
        RANDOMKEY a
        KEYS
        KEYS a b
        SCAN
        DBSIZE a
        EXISTS a
        DBSIZE
    ''',
    'strings': r'''
        APPEND a Hello
        APPEND a " World"
        GET a
        STRLEN a
        STRLEN none
        GETRANGE a 0 4
        GETRANGE a -5 -1
        GETRANGE a 3 1
        GETRANGE a 0 -1
        GETRANGE a 100 200
        GETRANGE none 0 -1
        GETRANGE a x 1
        SUBSTR a 0 4
        SETRANGE a 6 Redis
        GET a
        SETRANGE b 3 x
        GET b
        SETRANGE a -1 x
        SETRANGE a x x
        SETRANGE none 3 ""
        EXISTS none
        SETRANGE a 1048576 v
        APPEND none ""
        EXISTS none
        SETEX c 100 v
        TTL c
        PSETEX c 100000 w
        TTL c
        SETEX c 0 v
        SETEX c -1 v
        SETEX c x v
        PSETEX c 0 v
        GET c
        GETEX c
        TTL c
        GETEX c EX 5000
        TTL c
        GETEX c PERSIST
        TTL c
        GETEX c EX 0
        GETEX c FOO
        GETEX none
        GETEX none EX 10
        GETEX c PXAT 4102444800000
        PEXPIRETIME c
        GETEX c EXAT 1
        GET c
        EXISTS c
    ''',
    'numbers': r'''
        INCR n
        INCR n
        INCR n
        GET n
        DECR n
        DECR m
        INCRBY n 40
        INCRBY n -2
        DECRBY n 10
        DECRBY n -1
        GET n
        INCRBY n x
        INCRBY n 1.5
        INCRBY n 9223372036854775807
        DECRBY n -9223372036854775808
        SET max 9223372036854775807
        INCR max
        DECR max
        INCR max
        SET min -9223372036854775808
        DECR min
        SET s abc
        INCR s
        DECR s
        INCRBY s 1
        INCRBYFLOAT s 1
        SET e ""
        INCR e
        SET sp " 1"
        INCR sp
        SET z 01
        INCR z
        INCRBYFLOAT f 0.1
        INCRBYFLOAT f 0.2
        INCRBYFLOAT f -5.0e3
        GET f
        INCRBYFLOAT f x
        INCRBYFLOAT f nan
        INCRBYFLOAT f inf
        INCRBYFLOAT n 1.5
        INCR n
        SET big 3.0e3
        INCRBYFLOAT big 200
        SET n 10 EX 1000
        INCR n
        TTL n
        APPEND n 5
        GET n
        TTL n
    ''',
    'bits': r'''
        SETBIT b 7 1
        SETBIT b 7 0
        GETBIT b 7
        SETBIT b 7 1
        GETBIT b 7
        GETBIT b 100
        GETBIT none 3
        GET b
        SETBIT b 23 1
        STRLEN b
        BITCOUNT b
        SET k foobar
        BITCOUNT k
        BITCOUNT k 0 0
        BITCOUNT k 1 1
        BITCOUNT k 1 1 BYTE
        BITCOUNT k 5 30 BIT
        BITCOUNT k 5 30 bit
        BITCOUNT k -2 -1
        BITCOUNT k 3 1
        BITCOUNT none
        BITCOUNT none 0 -1
        BITCOUNT k 0 1 FOO
        BITCOUNT k x 1
        !refused BITCOUNT none x 1
        SETBIT k -1 1
        SETBIT k 4294967296 1
        SETBIT k x 1
        SETBIT k 1 2
        SETBIT k 1 x
        GETBIT k -1
        GETBIT k x
        SETBIT e 0 0
        GET e
        TTL e
    ''',
    'several keys': r'''
        MSET a 1 b 2 c 3
        MGET a b c
        MGET a none c a
        MGET none
        MSET a 1 a 2
        GET a
        MSET {t}a 1 {t}b 2 {t}c ""
        MGET {t}c {t}b {t}a
        MSETNX {t}d 4 {t}e 5
        MSETNX {t}e 6 {t}f 7
        MGET {t}d {t}e {t}f
        MSETNX {t}g 1 {t}g 2
        GET {t}g
        MSETNX {t}a 1
        MSETNX one 1
        GET one
        !crossgroup MSETNX x1 1 x2 2 x3 3 x4 4 x5 5 x6 6 x7 7 x8 8
        EXISTS a a none b
        EXISTS none
        TOUCH a none c
        TOUCH a a
        DEL a none a
        UNLINK b c none
        DEL none
        MGET a b c
        EXISTS {t}a {t}b {t}c {t}d
        DEL {t}a {t}b {t}c {t}d
        MGET {t}a {t}e
        SETEX {t}e 1000 v
        MSET {t}e w
        TTL {t}e
    ''',
    'rename and copy': r'''
        RENAME {t}a {t}b
        SET {t}a 1
        RENAME {t}a {t}b
        GET {t}a
        GET {t}b
        RENAME {t}b {t}b
        GET {t}b
        RENAME {t}none {t}none
        SETEX {t}x 1000 v
        RENAME {t}x {t}b
        GET {t}b
        TTL {t}b
        EXISTS {t}x
        SET {t}y plain
        RENAME {t}y {t}b
        TTL {t}b
        GET {t}b
        RENAMENX {t}b {t}c
        SET {t}d 4
        RENAMENX {t}c {t}d
        RENAMENX {t}c {t}c
        RENAMENX {t}none {t}e
        MGET {t}b {t}c {t}d
        COPY {t}c {t}f
        GET {t}f
        GET {t}c
        COPY {t}d {t}f
        GET {t}f
        COPY {t}d {t}f REPLACE
        GET {t}f
        COPY {t}d {t}f replace
        COPY {t}none {t}f REPLACE
        COPY {t}none {t}none2
        GET {t}f
        COPY {t}d {t}d
        COPY {t}d {t}d REPLACE
        COPY {t}d {t}f FOO
        COPY {t}d {t}f DB
        COPY {t}d {t}f DB x
        COPY {t}d {t}g DB 0
        GET {t}g
        !databases COPY {t}d {t}g DB 1
        EXPIRE {t}d 5000
        COPY {t}d {t}h
        TTL {t}h
        TTL {t}d
        INCR {t}h
        MGET {t}d {t}h
        SET far1 v
        !crossgroup COPY far1 other1
        !crossgroup RENAMENX far1 other3
        !crossgroup RENAME far1 other3
        GET other2
    ''',
    'expiry': r'''
        TTL none
        PTTL none
        EXPIRETIME none
        PEXPIRETIME none
        PERSIST none
        EXPIRE none 100
        SET a 1
        TTL a
        PTTL a
        EXPIRETIME a
        PEXPIRETIME a
        PERSIST a
        EXPIRE a 100
        TTL a
        PTTL a
        EXPIRETIME a
        PEXPIRETIME a
        EXPIRE a 1000 NX
        EXPIRE a 1000 XX
        TTL a
        EXPIRE a 500 GT
        EXPIRE a 2000 GT
        EXPIRE a 5000 LT
        EXPIRE a 700 LT
        TTL a
        EXPIRE a 10 NX XX
        EXPIRE a 10 GT LT
        EXPIRE a 10 FOO
        EXPIRE a x
        EXPIRE a 1.5
        EXPIRE a 9223372036854775807
        PERSIST a
        TTL a
        EXPIRE a 10000 GT
        EXPIRE a 10000 XX
        EXPIRE a 10000 LT
        TTL a
        PEXPIRE a 4000000
        TTL a
        EXPIREAT a 4102444800
        EXPIRETIME a
        PEXPIREAT a 4102444800123
        PEXPIRETIME a
        PEXPIREAT a 9223372036854775807
        PEXPIRE a 9223372036854775807
        SET a 2 KEEPTTL
        PEXPIRETIME a
        SET a 3
        TTL a
        EXPIRE a -1
        GET a
        EXISTS a
        SET b 1
        EXPIREAT b 1
        EXISTS b
        SET c 1 PX 60
        GO c
        GET c
        EXISTS c
        TTL c
        SET c 1 PX 60
        GO c
        INCR c
        TTL c
        SET d v PX 60
        GO d
        SET d w XX
        SETNX d w
        TTL d
        SET e v PX 60
        GO e
        DEL e
        SET {t}f v PX 60
        GO {t}f
        RENAME {t}f {t}g
        SET {t}f v PX 60
        GO {t}f
        MSETNX {t}f 1 {t}g 2
        MGET {t}f {t}g
        SET h v PX 60
        GO h
        KEYS h
        TYPE h
        SIZE 4
    ''',
    'keys': r'''
        KEYS *
        DBSIZE
        RANDOMKEY
        WALK
        SET only v
        RANDOMKEY
        DEL only
        MSET hello 1 hallo 2 hxllo 3 hllo 4 heello 5 h*llo 6 h?llo 7 h[a]llo 8 foo 9 bar 10
        MSET A 1 a 2 b 3 c 4 d 5 - 6 ] 7 "\\" 8 "" 9 "^" 10
        DBSIZE
        KEYS *
        KEYS h?llo
        KEYS h*llo
        KEYS h[ae]llo
        KEYS h[^e]llo
        KEYS h[a-b]llo
        KEYS [a-c]
        KEYS [c-a]
        KEYS [^a-c]
        KEYS [a-]
        KEYS [-a]
        KEYS [a
        KEYS []]
        KEYS [\]]
        KEYS []
        KEYS [^]
        KEYS "[\\^]"
        KEYS "h\\*llo"
        KEYS "h\\?llo"
        KEYS "h\\[a\\]llo"
        KEYS "\\\\"
        KEYS "\\"
        KEYS "a\\"
        KEYS ?
        KEYS ??
        KEYS ""
        KEYS none*
        !empty KEYS **
        KEYS *o
        KEYS *l*o
        KEYS a*b
        WALK
        WALK COUNT 1
        WALK COUNT 3
        WALK COUNT 1000
        WALK MATCH h*
        WALK MATCH h* COUNT 2
        WALK MATCH [a-c]
        WALK MATCH ""
        WALK MATCH * TYPE string
        WALK TYPE string
        WALK TYPE STRING
        WALK TYPE list
        WALK TYPE hash COUNT 100
        WALK TYPE nothing
        WALK count 5 match *
        SCAN x
        !cursor SCAN -1
        SCAN 0 COUNT
        SCAN 0 COUNT 0
        SCAN 0 COUNT -1
        SCAN 0 COUNT x
        SCAN 0 MATCH
        SCAN 0 FOO
        SCAN 0 FOO 1
        SCAN 0 COUNT 9223372036854775808
        SCAN 99999999999999999999999
        DEL hello
        KEYS hello
        DBSIZE
        TYPE hallo
        TYPE none
        OBJECT ENCODING hallo
        OBJECT ENCODING none
        OBJECT FOO hallo
        OBJECT FREQ hallo
        OBJECT FREQ none
        OBJECT IDLETIME none
        OBJECT IDLETIME
        OBJECT IDLETIME hallo 5
        OBJECT HELP
        OBJECT HELP hallo
        MEMORY USAGE none
        MEMORY USAGE none SAMPLES 0
        MEMORY USAGE hallo SAMPLES -1
        MEMORY USAGE hallo SAMPLES x
        MEMORY USAGE hallo SAMPLES
        MEMORY USAGE hallo FOO
        MEMORY USAGE
        MEMORY FOO
        MEMORY
        !refcount OBJECT REFCOUNT hallo
        OBJECT REFCOUNT none
        SET long "a value of more than forty-four bytes is kept raw"
        OBJECT ENCODING long
        SET short v
        OBJECT ENCODING short
        OBJECT REFCOUNT short
        FLUSHALL
        DBSIZE
        KEYS *
        RANDOMKEY
        GET foo
        MGET hallo bar
        MSET a 1 b 2
        FLUSHDB
        MGET a b
        SET a 1
        FLUSHALL ASYNC
        GET a
        SET a 1
        FLUSHALL SYNC
        EXISTS a
        FLUSHDB SYNC
        FLUSHALL FOO
        FLUSHALL ASYNC SYNC
        FLUSHALL
    ''',
    'longest common subsequence': r'''
        LCS
        LCS a
        LCS a b
        LCS a b LEN
        LCS a b IDX
        MSET a ohmytext b mynewtext
        LCS a b
        lcs b a
        LCS a b LEN
        LCS a b IDX
        LCS a b IDX WITHMATCHLEN
        LCS a b IDX MINMATCHLEN 4
        LCS a b IDX MINMATCHLEN 4 WITHMATCHLEN
        LCS a b idx minmatchlen -1 withmatchlen
        LCS a b MINMATCHLEN 100
        LCS a b MINMATCHLEN 100 IDX
        LCS a b LEN MINMATCHLEN 100 WITHMATCHLEN
        LCS a b MINMATCHLEN x
        LCS a b MINMATCHLEN
        LCS a b FOO
        LCS a b LEN IDX
        LCS a b LEN IDX FOO
        LCS a a IDX WITHMATCHLEN
        LCS a none IDX
        LCS none a
        SET a ""
        LCS a b IDX
        SET n 12345
        SET m 2468
        LCS n m
        LCS n m IDX WITHMATCHLEN
        SETRANGE long 510 x
        SETRANGE longer 511 x
        LCS long long LEN
        LCS long longer LEN
        LCS longer long
        LCS longer none
    ''',
    'what differs': r'''
        SET n 5
        APPEND n 6
        !encoding OBJECT ENCODING n
        INCRBYFLOAT s inf
        SET w abc
        !infinite INCRBYFLOAT w inf
        !refused GETEX none EX 0
        !streams XADD n 1-1 f v
        GET n
        XADD st 1-1 f v
        !streams GET st
        !streams TYPE st
        !streams EXISTS st
        !streams DBSIZE
        !databases SELECT 1
        SELECT 1000
        SELECT abc
        SELECT -1
        SELECT 00
        SETRANGE bits 2 "a"
        BITPOS bits 1
        BITPOS bits 0 1 -1
        BITPOS bits 1 17 -1 BIT
        BITPOS bits 2
        BITPOS none 1
        MEMORY PURGE
        SELECT 0
        !usage MEMORY USAGE n
        !usage MEMORY USAGE n SAMPLES 5
        !ifeq SET w new IFEQ abc
        !ifeq DELEX w IFEQ new
    ''',
}
