/* The table of error words; see errors.h. Responsible for the contract of a word (status, meaning, advice); not for the
 * sentence behind it, which whoever refuses a request writes. */
#include "utils/errors.h"

const struct error_info error_table[ERROR_WORD_COUNT] = {
#define X(word, http, what, todo) {#word, http, what, todo},
    ERROR_WORDS(X)
#undef X
};

bool error_find(slice_t text, enum error_word *out)
{
    if (text.len > 0 && text.ptr[0] == '-') {
        text = slice_of(text.ptr + 1, text.len - 1);
    }
    size_t n = 0;
    while (n < text.len && text.ptr[n] != ' ' && text.ptr[n] != '\r') {
        n++;
    }
    for (int i = 0; i < ERROR_WORD_COUNT; i++) {
        if (slice_eq(slice_of(text.ptr, n), slice_str(error_table[i].word))) {
            *out = (enum error_word)i;
            return true;
        }
    }
    return false;
}
