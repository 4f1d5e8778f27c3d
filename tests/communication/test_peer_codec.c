/* Frames between nodes: every message comes back as it went, msgpack-c reads and writes the same bytes, and nothing malformed is taken
 * (I34-I37, I39). The message table of docs/wire.md, whose path is the argument, must be the one in peer_fields.h. */
#include "../utils/test.h"

#include "communication/peer_auth.h"
#include "communication/peer_codec.h"
#include "communication/peer_fields.h"
#include "utils/crc32c.h"
#include "utils/limits.h"
#include "utils/prng.h"

#include <msgpack.h>

enum ftype { T_BOOL, T_U8, T_U32, T_U64, T_BYTES };

struct row {
    enum peer_kind kind;
    const char *kind_name, *member, *type_name, *max_name;
    enum ftype type;
    size_t offset;
    uint64_t max;
};

#define ROW(message, member, type, max) {PEER_##message, #message, #member, #type, #max, T_##type, offsetof(struct peer_msg, member), max},
static const struct row ROWS[] = {PEER_FIELDS(ROW)};
enum { ROW_COUNT = sizeof ROWS / sizeof ROWS[0] };

static uint64_t number_at(const struct row *f, const struct peer_msg *m)
{
    const uint8_t *at = (const uint8_t *)m + f->offset;
    return f->type == T_U64 ? le64_get(at) : f->type == T_U32 ? le32_get(at) : at[0];
}

static slice_t bytes_at(const struct row *f, const struct peer_msg *m)
{
    slice_t s;
    memcpy(&s, (const char *)m + f->offset, sizeof s);
    return s;
}

static uint64_t random_number(struct prng *g, uint64_t max)
{
    static const uint64_t edges[] = {0, 1, 127, 128, 255, 256, 65535, 65536, UINT32_MAX, UINT64_MAX};
    uint64_t v = prng_below(g, 3) ? edges[prng_below(g, 10)] : prng_u64(g) >> prng_below(g, 64);
    return v > max ? (prng_below(g, 2) ? max : v % (max + 1)) : v;
}

static uint8_t noise[70000];

static void fill(struct prng *g, const struct row *f, struct peer_msg *m)
{
    uint8_t *at = (uint8_t *)m + f->offset;
    if (f->type == T_BYTES) {
        static const size_t lens[] = {0, 1, 2, 32, 255, 256, 65535, 65536};
        size_t len = lens[prng_below(g, 8)];
        slice_t s = slice_of(noise, len > f->max ? f->max : len);
        memcpy(at, &s, sizeof s);
        return;
    }
    uint64_t v = random_number(g, f->max);
    if (f->type == T_U64) {
        le64_put(at, v);
    } else if (f->type == T_U32) {
        le32_put(at, (uint32_t)v);
    } else {
        at[0] = (uint8_t)v;
    }
}

static void random_consensus(struct prng *g, struct consensus_msg *m, struct buf *entries)
{
    *m = (struct consensus_msg){.type = MSG_HEARTBEAT, .group = (uint32_t)prng_u64(g), .from = 1, .to = 2};
    m->term = 10 + random_number(g, 1u << 30);
    m->commit = random_number(g, 1u << 30);
    m->ctx = prng_u64(g);
    m->quiesce = prng_below(g, 2) == 1;
    if (prng_below(g, 2)) {
        m->type = MSG_APPEND;
        m->log_term = 3;
        m->index = 7;
        buf_clear(entries);
        m->n_entries = (uint32_t)prng_below(g, 4);
        for (uint32_t i = 0; i < m->n_entries; i++) {
            entry_encode(entries, 3 + i, ENTRY_NORMAL, slice_of(noise, prng_range(g, 1, 300)));
        }
        m->data = buf_slice(entries);
    }
}

/* Random, and such that it may travel. */
static void random_message(struct prng *g, struct peer_msg *m, struct buf *entries)
{
    memset(m, 0, sizeof *m);
    m->kind = (enum peer_kind)prng_range(g, PEER_HELLO, PEER_KIND_MAX - 1);
    for (int i = 0; i < ROW_COUNT; i++) {
        if (ROWS[i].kind == m->kind && m->kind != PEER_CONSENSUS) {
            fill(g, &ROWS[i], m);
        }
    }
    switch (m->kind) {
    case PEER_CONSENSUS: random_consensus(g, &m->u.consensus, entries); break;
    case PEER_HELLO:
        m->u.hello.node |= 1;
        m->u.hello.node &= 0x7fffffff;
        m->u.hello.name = SLICE_LIT("n1");
        m->u.hello.client_host = SLICE_LIT("host-1.example");
        m->u.hello.mac = prng_below(g, 2) ? slice_of(noise, PEER_MAC_BYTES) : SLICE_NONE;
        break;
    case PEER_FORWARD:
        m->u.forward.kind = FORWARD_READ;
        m->u.forward.payload = slice_of(noise, prng_range(g, 1, 400));
        break;
    case PEER_PROBE: m->u.probe.initiator_owner = m->u.probe.target_owner = SLICE_LIT("owner"); break;
    default: break;
    }
}

static void assert_same(const struct peer_msg *a, const struct peer_msg *b)
{
    assert_int_equal(a->kind, b->kind);
    for (int i = 0; i < ROW_COUNT; i++) {
        const struct row *f = &ROWS[i];
        if (f->kind != a->kind) {
            continue;
        }
        if (f->type == T_BYTES ? !slice_eq(bytes_at(f, a), bytes_at(f, b)) : number_at(f, a) != number_at(f, b)) {
            fail_msg("%s differs", f->member);
        }
    }
}

static void pack(msgpack_packer *pk, const struct peer_msg *m)
{
    size_t n = 1;
    for (int i = 0; i < ROW_COUNT; i++) {
        n += ROWS[i].kind == m->kind;
    }
    msgpack_pack_array(pk, n);
    msgpack_pack_uint64(pk, (uint64_t)m->kind);
    for (int i = 0; i < ROW_COUNT; i++) {
        const struct row *f = &ROWS[i];
        if (f->kind == m->kind && f->type == T_BYTES) {
            slice_t s = bytes_at(f, m);
            msgpack_pack_bin(pk, s.len);
            msgpack_pack_bin_body(pk, s.ptr, s.len);
        } else if (f->kind == m->kind) {
            msgpack_pack_uint64(pk, number_at(f, m));
        }
    }
}

static slice_t body_of(const struct buf *frame)
{
    slice_t body = SLICE_NONE;
    size_t used = 0;
    const char *reason = NULL;
    assert_int_equal(frame_split(buf_slice(frame), LIMIT_FRAME_BYTES, &body, &used, &reason), FRAME_OK);
    assert_int_equal(used, frame->len);
    return body;
}

static void messages_come_back_and_msgpack_c_agrees(void **state)
{
    (void)state;
    struct prng g;
    prng_init(&g, 4);
    for (int round = 0; round < 3000; round++) {
        struct peer_msg sent[4], got;
        struct buf entries[4] = {{0}}, out = {0};
        uint32_t n = (uint32_t)prng_range(&g, 1, 4);
        struct frame_builder f;
        msgpack_sbuffer sb;
        msgpack_packer pk;
        msgpack_sbuffer_init(&sb);
        msgpack_packer_init(&pk, &sb, msgpack_sbuffer_write);
        frame_begin(&f, &out);
        for (uint32_t i = 0; i < n; i++) {
            random_message(&g, &sent[i], &entries[i]);
            frame_add(&f, &sent[i]);
            pack(&pk, &sent[i]);
        }
        frame_end(&f);
        slice_t body = body_of(&out);
        assert_int_equal(body.len, sb.size + 5);
        assert_memory_equal(body.ptr + 5, sb.data, sb.size);
        msgpack_unpacked un;
        msgpack_unpacked_init(&un);
        assert_int_equal(msgpack_unpack_next(&un, (const char *)body.ptr, body.len, NULL), MSGPACK_UNPACK_SUCCESS);
        assert_int_equal(un.data.via.array.size, n);
        msgpack_unpacked_destroy(&un);
        assert_null(frame_check(body));
        struct frame_reader r;
        frame_read(&r, body);
        for (uint32_t i = 0; i < n; i++) {
            assert_true(frame_next(&r, &got));
            assert_same(&sent[i], &got);
            buf_fini(&entries[i]);
        }
        assert_false(frame_next(&r, &got));
        assert_null(r.reason);
        msgpack_sbuffer_destroy(&sb);
        buf_fini(&out);
    }
}

static void a_large_append_is_copied_once(void **state)
{
    (void)state;
    struct buf run = {0}, out = {0};
    uint8_t *payload = calloc(1, 256 * 1024);
    entry_encode(&run, 5, ENTRY_NORMAL, slice_of(payload, 256 * 1024));
    struct peer_msg got, m = {.kind = PEER_CONSENSUS,
                              .u.consensus = {.type = MSG_APPEND, .from = 1, .to = 2, .term = 5, .n_entries = 1, .data = buf_slice(&run)}};
    struct frame_builder f;
    frame_begin(&f, &out);
    frame_add(&f, &m);
    frame_end(&f);
    assert_true(out.len < run.len + 64);
    struct frame_reader r;
    frame_read(&r, body_of(&out));
    assert_true(frame_next(&r, &got));
    assert_true(got.u.consensus.data.ptr > out.ptr && got.u.consensus.data.ptr < out.ptr + out.len); /* in place */
    assert_true(slice_eq(got.u.consensus.data, buf_slice(&run)));
    free(payload);
    buf_fini(&run);
    buf_fini(&out);
}

static void an_empty_frame_leaves_nothing(void **state)
{
    (void)state;
    struct buf out = {0};
    buf_append_str(&out, "before");
    struct frame_builder f;
    frame_begin(&f, &out);
    frame_end(&f);
    assert_true(slice_eq(buf_slice(&out), SLICE_LIT("before")));
    buf_fini(&out);
}

static void one_frame(struct prng *g, struct buf *out)
{
    struct buf entries = {0};
    struct frame_builder f;
    struct peer_msg m;
    buf_clear(out);
    frame_begin(&f, out);
    for (int i = 0; i < 2; i++) {
        random_message(g, &m, &entries);
        frame_add(&f, &m);
    }
    frame_end(&f);
    buf_fini(&entries);
}

static void i34_frame_lengths(void **state)
{
    (void)state;
    static const uint32_t lengths[] = {0, 1, 5, LIMIT_FRAME_BYTES + 1, UINT32_MAX, 0x80000000};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        uint8_t head[PEER_FRAME_HEADER_BYTES] = {0};
        le32_put(head, lengths[i]);
        slice_t body;
        size_t used;
        const char *reason = NULL;
        assert_int_equal(frame_split(slice_of(head, sizeof head), LIMIT_FRAME_BYTES, &body, &used, &reason), FRAME_BAD);
        assert_string_equal(reason, "frame length out of range");
        assert_int_equal(frame_split(slice_of(head, 7), LIMIT_FRAME_BYTES, &body, &used, &reason), FRAME_MORE);
    }
}

static void every_prefix_is_incomplete_and_every_flipped_bit_is_seen(void **state)
{
    (void)state;
    struct prng g;
    prng_init(&g, 9);
    struct buf out = {0};
    one_frame(&g, &out);
    slice_t body;
    size_t used;
    const char *reason;
    for (size_t n = 0; n < out.len; n++) {
        assert_int_equal(frame_split(slice_of(out.ptr, n), LIMIT_FRAME_BYTES, &body, &used, &reason), FRAME_MORE);
    }
    for (size_t bit = 32; bit < out.len * 8; bit++) {
        out.ptr[bit / 8] ^= (uint8_t)(1u << bit % 8);
        reason = NULL;
        assert_int_equal(frame_split(buf_slice(&out), LIMIT_FRAME_BYTES, &body, &used, &reason), FRAME_BAD);
        assert_string_equal(reason, "frame checksum differs");
        out.ptr[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    buf_fini(&out);
}

static void expect_bad(slice_t body, const char *reason)
{
    const char *got = frame_check(body);
    if (got == NULL || (reason != NULL && strcmp(got, reason) != 0)) {
        fail_msg("got %s, want %s", got ? got : "nothing", reason ? reason : "a refusal");
    }
}

static void i35_declared_lengths_are_not_believed(void **state)
{
    (void)state;
    expect_bad(SLICE_LIT("\xdd\xff\xff\xff\xff"), "an array was expected, of what the frame can hold");
    expect_bad(SLICE_LIT("\xdd\x00\x00\x00\x01\xdd\xff\xff\xff\xff"), "an array was expected, of what the frame can hold");
    expect_bad(SLICE_LIT("\xdd\x00\x00\x00\x01\x96\x03\x02\x00\x00\xc6\xff\xff\xff\xff"), "bytes longer than allowed or than the frame");
    expect_bad(SLICE_LIT("\xdd\x00\x00\x00\x01\x96\x03\x02\x00\x00\xc4\x05" "abcd"), "bytes longer than allowed or than the frame");
    assert_null(frame_check(SLICE_LIT("\xdd\x00\x00\x00\x01\x96\x03\x02\x00\x00\xc4\x04" "abcd\x01")));
}

static void i36_nesting_ends_at_once(void **state)
{
    (void)state;
    struct buf deep = {0};
    for (int i = 0; i < 100000; i++) {
        buf_put_u8(&deep, 0x91);
    }
    expect_bad(buf_slice(&deep), "field has the wrong type");
    buf_clear(&deep);
    for (int i = 0; i < 24000; i++) {
        buf_append(&deep, "\xdc\xff\xff", 3);
    }
    expect_bad(buf_slice(&deep), NULL);
    buf_fini(&deep);
}

static void i37_frames_are_exact(void **state)
{
    (void)state;
#define ONE "\xdd\x00\x00\x00\x01"
    expect_bad(SLICE_LIT(ONE "\x96\x03\x02\x00\x00\xc4\x01" "a\x01x"), "bytes behind the last message");
    expect_bad(SLICE_LIT(ONE "\x94\x03\x02\x00\x00"), "wrong number of fields");
    expect_bad(SLICE_LIT(ONE "\x97\x03\x02\x00\x00\xc4\x01" "a\x01\x00"), "wrong number of fields");
    expect_bad(SLICE_LIT(ONE "\x95\x00\x02\x00\x00\xc4\x01" "a"), "unknown kind of message");
    expect_bad(SLICE_LIT(ONE "\x95\x09\x02\x00\x00\xc4\x01" "a"), "field out of range");
    expect_bad(SLICE_LIT(ONE "\x96\x03\x04\x00\x00\xc4\x01" "a"), "field out of range");
    expect_bad(SLICE_LIT(ONE "\x96\x03\x00\x00\x00\xc4\x01" "a\x01"), "an empty forward");
    expect_bad(SLICE_LIT(ONE "\x96\x03\x02\x00\x00\xc4\x00\x01"), "an empty forward");
    expect_bad(SLICE_LIT(ONE "\x96\x03\x02\x00\x00\xa1" "a"), "field has the wrong type");
    expect_bad(SLICE_LIT(ONE "\x96\x03\x02\x00\xc0\xc4\x01" "a"), "field has the wrong type");
    expect_bad(SLICE_LIT(ONE "\x96\x03\x02\x00\xff\xc4\x01" "a"), "field has the wrong type");
    expect_bad(SLICE_LIT(ONE "\x96\x03\x02\x00\x00\xc7\x01\x05" "a"), "field has the wrong type");
    expect_bad(SLICE_LIT(ONE "\x96\x03\x02\xc1\x00\xc4\x01" "a"), "malformed msgpack");
    expect_bad(SLICE_LIT(ONE "\x81\x03\x02"), "an array was expected, of what the frame can hold");
    expect_bad(SLICE_LIT("\x82\x01\x02\x01\x02\x00"), "an array was expected, of what the frame can hold");
    expect_bad(SLICE_NONE, "malformed msgpack");
    struct prng g;
    prng_init(&g, 12);
    struct buf out = {0};
    for (int i = 0; i < 200; i++) {
        one_frame(&g, &out);
        for (size_t n = PEER_FRAME_HEADER_BYTES; n < out.len && n < 600; n++) {
            uint8_t *exact = malloc(n - PEER_FRAME_HEADER_BYTES + 1); /* reading on is seen by the sanitizers */
            memcpy(exact, out.ptr + PEER_FRAME_HEADER_BYTES, n - PEER_FRAME_HEADER_BYTES);
            expect_bad(slice_of(exact, n - PEER_FRAME_HEADER_BYTES), NULL);
            free(exact);
        }
    }
    buf_fini(&out);
}

static void i37_any_damage_is_survived(void **state)
{
    (void)state;
    struct prng g;
    prng_init(&g, 13);
    struct buf out = {0};
    for (int i = 0; i < 30000; i++) {
        one_frame(&g, &out);
        uint8_t *body = out.ptr + PEER_FRAME_HEADER_BYTES;
        size_t len = out.len - PEER_FRAME_HEADER_BYTES;
        size_t window = len < 120 ? len : 120;
        body[prng_below(&g, window)] = (uint8_t)prng_u64(&g);
        (void)frame_check(slice_of(body, len));
    }
    buf_fini(&out);
}

/* Packs one message of the kind with every field least, but `special` as given. */
static void pack_with(msgpack_sbuffer *sb, enum peer_kind kind, const struct row *special, uint64_t value)
{
    msgpack_packer pk;
    msgpack_packer_init(&pk, sb, msgpack_sbuffer_write);
    msgpack_pack_array(&pk, 1);
    size_t n = 1;
    for (int i = 0; i < ROW_COUNT; i++) {
        n += ROWS[i].kind == kind;
    }
    msgpack_pack_array(&pk, n);
    msgpack_pack_uint64(&pk, (uint64_t)kind);
    for (int i = 0; i < ROW_COUNT; i++) {
        uint64_t v = &ROWS[i] == special ? value : 0;
        if (ROWS[i].kind == kind && ROWS[i].type == T_BYTES) {
            char *zeros = calloc(1, v + 1);
            msgpack_pack_bin(&pk, v);
            msgpack_pack_bin_body(&pk, zeros, v);
            free(zeros);
        } else if (ROWS[i].kind == kind) {
            msgpack_pack_uint64(&pk, v);
        }
    }
}

static void i39_every_field_has_its_range(void **state)
{
    (void)state;
    for (int i = 0; i < ROW_COUNT; i++) {
        const struct row *f = &ROWS[i];
        if (f->max == UINT64_MAX) {
            continue;
        }
        msgpack_sbuffer sb;
        msgpack_sbuffer_init(&sb);
        pack_with(&sb, f->kind, f, f->max + 1);
        expect_bad(slice_of(sb.data, sb.size), f->type == T_BYTES ? "bytes longer than allowed or than the frame" : "field out of range");
        sb.size = 0;
        pack_with(&sb, f->kind, f, f->max);
        const char *why = frame_check(slice_of(sb.data, sb.size));
        if (why != NULL && (strstr(why, "range") != NULL || strstr(why, "longer") != NULL)) {
            fail_msg("%s at its greatest: %s", f->member, why);
        }
        msgpack_sbuffer_destroy(&sb);
    }
}

static void expect_consensus_bad(struct consensus_msg c)
{
    struct buf out = {0};
    struct frame_builder f;
    struct peer_msg m = {.kind = PEER_CONSENSUS, .u.consensus = c};
    frame_begin(&f, &out);
    frame_add(&f, &m);
    frame_end(&f);
    expect_bad(body_of(&out), NULL);
    buf_fini(&out);
}

static void i39_numbers_that_would_wrap_are_refused(void **state)
{
    (void)state;
    struct buf run = {0};
    entry_encode(&run, 5, ENTRY_NORMAL, SLICE_LIT("x"));
    struct consensus_msg ok = {.type = MSG_APPEND, .from = 1, .to = 2, .term = 5, .log_term = 5, .index = 9, .n_entries = 1, .data = buf_slice(&run)};
    assert_null(consensus_msg_invalid(&ok));
    struct consensus_msg m = ok;
    m.index = UINT64_MAX;
    expect_consensus_bad(m);
    m = ok;
    m.term = UINT64_MAX;
    expect_consensus_bad(m);
    m = ok;
    m.commit = UINT64_MAX;
    expect_consensus_bad(m);
    m = ok;
    m.n_entries = 2;
    expect_consensus_bad(m);
    m = ok;
    m.data.len--;
    expect_consensus_bad(m);
    m = ok;
    m.to = 1;
    expect_consensus_bad(m);
    buf_fini(&run);
}

static void hellos_are_words(void **state)
{
    (void)state;
    static const struct {
        slice_t name, host;
        size_t mac;
        bool ok;
    } cases[] = {{SLICE_LIT("n1"), SLICE_LIT("127.0.0.1"), 0, true}, {SLICE_LIT("n1"), SLICE_NONE, 32, true},
                 {SLICE_NONE, SLICE_NONE, 0, false},                 {SLICE_LIT("n 1"), SLICE_NONE, 0, false},
                 {SLICE_LIT("n\n1"), SLICE_NONE, 0, false},          {SLICE_LIT("n1"), SLICE_LIT("\x1b[2J"), 0, false},
                 {SLICE_LIT("n1"), SLICE_NONE, 31, false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct peer_msg m = {.kind = PEER_HELLO,
                             .u.hello = {.version = 1, .node = 1, .name = cases[i].name, .client_host = cases[i].host,
                                         .mac = slice_of(noise, cases[i].mac)}};
        struct buf out = {0};
        struct frame_builder f;
        frame_begin(&f, &out);
        frame_add(&f, &m);
        frame_end(&f);
        assert_int_equal(frame_check(body_of(&out)) == NULL, cases[i].ok);
        buf_fini(&out);
    }
}

static const char *wire_md;

static void the_table_in_the_documentation_is_this_one(void **state)
{
    (void)state;
    if (wire_md == NULL) {
        skip();
    }
    struct buf want = {0}, page = {0};
    buf_append_str(&want, "| message | field | type | at most |\n| --- | --- | --- | --- |\n");
    for (int i = 0; i < ROW_COUNT; i++) {
        const struct row *f = &ROWS[i];
        const char *max = strncmp(f->max_name, "UINT", 4) == 0 && strchr(f->max_name, '-') == NULL ? "" : f->max_name;
        bool first = i == 0 || ROWS[i - 1].kind != f->kind;
        buf_printf(&want, "| %s | %s | %s | %s |\n", first ? f->kind_name : "", strrchr(f->member, '.') + 1, f->type_name, max);
    }
    FILE *file = fopen(wire_md, "rb");
    assert_non_null(file);
    page.len = fread(buf_reserve(&page, 1 << 20), 1, 1 << 20, file);
    fclose(file);
    if (memmem(page.ptr, page.len, want.ptr, want.len) == NULL) {
        fwrite(want.ptr, 1, want.len, stderr);
        fail_msg("%s must contain the table above", wire_md);
    }
    buf_fini(&want);
    buf_fini(&page);
}

int main(int argc, char **argv)
{
    wire_md = argc > 1 ? argv[1] : NULL;
    for (size_t i = 0; i < sizeof noise; i++) {
        noise[i] = (uint8_t)(i * 131 >> 3);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_come_back_and_msgpack_c_agrees),
        cmocka_unit_test(a_large_append_is_copied_once),
        cmocka_unit_test(an_empty_frame_leaves_nothing),
        cmocka_unit_test(i34_frame_lengths),
        cmocka_unit_test(every_prefix_is_incomplete_and_every_flipped_bit_is_seen),
        cmocka_unit_test(i35_declared_lengths_are_not_believed),
        cmocka_unit_test(i36_nesting_ends_at_once),
        cmocka_unit_test(i37_frames_are_exact),
        cmocka_unit_test(i37_any_damage_is_survived),
        cmocka_unit_test(i39_every_field_has_its_range),
        cmocka_unit_test(i39_numbers_that_would_wrap_are_refused),
        cmocka_unit_test(hellos_are_words),
        cmocka_unit_test(the_table_in_the_documentation_is_this_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
