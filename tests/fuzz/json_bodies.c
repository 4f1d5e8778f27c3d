/* libFuzzer: JSON bodies. What is taken is an object whose fields answer without surprise; what is refused has a reason (I31). */
#include "communication/json.h"
#include "utils/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"resource_id", "ttl", "ttl_ms", "lock_id", NULL};
    struct json_in in;
    slice_t text = SLICE_NONE;
    uint64_t ms = 50, id = 0;
    if (!json_begin(&in, slice_of(data, size))) {
        syn_assert(in.why[0] != '\0');
    } else {
        if (json_text(&in, "resource_id", false, 1024, &text) && text.len > 0) {
            syn_assert(text.len <= 1024);
            struct buf b = {0};
            json_put_string(&b, text);
            syn_assert(b.len >= text.len + 2 && b.ptr[0] == '"');
            buf_fini(&b);
        }
        if (json_duration(&in, "ttl", 10, 86400000, &ms)) {
            syn_assert(ms >= 10 && ms <= 86400000);
        }
        (void)json_id(&in, "lock_id", true, &id);
        (void)json_only(&in, names);
    }
    json_end(&in);
    return 0;
}
