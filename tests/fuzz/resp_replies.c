/* libFuzzer: the reply reader (clients, the command line, a hostile server), the conversion to RESP2 and to JSON. A whole reply has a
 * size that its prefixes do not have, skipping it ends there, and its JSON is JSON. */
#include "communication/resp.h"
#include "utils/assert.h"

#include <jansson.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const ids[] = {"id", NULL};
    slice_t in = slice_of(data, size);
    size_t whole = resp_reply_size(in);
    struct buf out = {0};
    resp_to_json(&out, in, ids);
    json_t *v = json_loadb((const char *)out.ptr, out.len, JSON_DECODE_ANY, NULL);
    syn_assert(v != NULL);
    json_decref(v);
    buf_clear(&out);
    if (whole != 0 && whole != SIZE_MAX) {
        struct reader r = reader_of(in);
        syn_assert(resp_skip(&r) && (size_t)(r.p - in.ptr) == whole);
        syn_assert(resp_reply_size(slice_of(data, whole - 1)) == 0);
        slice_t one = slice_of(data, whole);
        struct resp_value value;
        (void)resp_map_get(one, "id", &value);
        resp_convert(&out, one, 2);
        syn_assert(out.len == 0 || resp_reply_size(buf_slice(&out)) == out.len);
    }
    buf_fini(&out);
    return 0;
}
