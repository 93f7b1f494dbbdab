/* Small texts that people and strangers write: codes, hex, base64, times, durations. What is accepted reads
 * back the same; what is made clean is clean. */
#include "common/crypto/crypto.h"
#include "tests/fuzz/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct view v = view_of(data, size);
    AUTO_FREE char *s = malloc(size + 1);
    if (!s)
        return 0;
    memcpy(s, data, size);
    s[size] = 0;
    struct site_code code;
    if (site_code_parse(v, &code) == 0)
        PROMISE(view_eq(view_str(code.s), v) && text_is_clean(v));
    struct wall wall;
    char back[32];
    if (wall_parse(s, &wall) == 0)
        PROMISE(strcmp(wall_text(wall, back), s) == 0);
    int64_t ns;
    if (duration_parse(s, &ns) == 0)
        PROMISE(ns >= 0);
    AUTO_BUF raw = {0}, text = {0};
    if (base64_decode(v, &raw) == 0) {
        base64_encode(buf_view(&raw), &text);
        PROMISE(view_eq(buf_view(&text), v));
    }
    struct hash h;
    if (hex_decode(s, h.b, sizeof h.b) == 0)
        PROMISE(strlen(s) == 64);
    (void)err_fail(ERR_MALFORMED, "%s", s);
    PROMISE(text_is_clean(view_str(err_text(ERR_MALFORMED))));
    size_t len = strlen(s);
    PROMISE(text_is_clean(view_str(text_make_clean(s))) && strlen(s) == len);
    return 0;
}
