/* Writing HTTP/1.1 responses; see http.h. */
#include "communication/http.h"

static const struct {
    int status;
    const char *text;
} STATUS_TEXTS[] = {
    {200, "OK"},
    {201, "Created"},
    {204, "No Content"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {412, "Precondition Failed"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {417, "Expectation Failed"},
    {422, "Unprocessable Content"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
    {507, "Insufficient Storage"},
};

const char *http_status_text(int status)
{
    for (size_t i = 0; i < sizeof STATUS_TEXTS / sizeof STATUS_TEXTS[0]; i++) {
        if (STATUS_TEXTS[i].status == status) {
            return STATUS_TEXTS[i].text;
        }
    }
    return "Unknown";
}

/* IMF-fixdate (RFC 9110 section 5.6.7); civil date from days after Hinnant, "chrono-compatible low-level date algorithms". */
static void put_date(struct buf *out, uint64_t wall_ms)
{
    static const char days[][4] = {"Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"};
    static const char months[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    uint64_t s = wall_ms / 1000, day = s / 86400, z = day + 719468, era = z / 146097, doe = z % 146097;
    uint64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365, doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    uint64_t mp = (5 * doy + 2) / 153, d = doy - (153 * mp + 2) / 5 + 1, m = mp < 10 ? mp + 3 : mp - 9;
    uint64_t y = yoe + era * 400 + (m <= 2);
    buf_printf(out, "Date: %s, %02u %s %04u %02u:%02u:%02u GMT\r\n", days[day % 7], (unsigned)d, months[m - 1], (unsigned)y,
               (unsigned)(s / 3600 % 24), (unsigned)(s / 60 % 60), (unsigned)(s % 60));
}

void http_response(struct buf *out, int status, const char *content_type, slice_t body, bool keep_alive, const char *extra_headers,
                   uint64_t wall_ms)
{
    buf_printf(out, "HTTP/1.1 %d %s\r\n", status, http_status_text(status));
    if (wall_ms != 0) {
        put_date(out, wall_ms);
    }
    if (content_type != NULL) {
        buf_printf(out, "Content-Type: %s\r\nX-Content-Type-Options: nosniff\r\n", content_type);
    }
    if (status != 204) { /* RFC 9110 section 8.6 */
        buf_printf(out, "Content-Length: %zu\r\n", body.len);
    }
    buf_append_str(out, "Cache-Control: no-store\r\n");
    if (!keep_alive) {
        buf_append_str(out, "Connection: close\r\n");
    }
    if (extra_headers != NULL) {
        buf_append_str(out, extra_headers);
    }
    buf_append_str(out, "\r\n");
    buf_append_slice(out, body);
}
