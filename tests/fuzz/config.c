/* The configuration file: refused with a place and a reason, or printed back as the same configuration. */
#include "common/config/config.h"
#include "common/base/id.h"
#include "tests/fuzz/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    AUTO_BUF text = {0};
    AUTO_BUF printed = {0};
    struct config *c = NULL, *again = NULL;
    enum config_key changed[CONFIG_COUNT];
    buf_append(&text, data, len);
    buf_u8(&text, 0);
    PROMISE(text.err == 0);
    int rc = config_parse_text((const char *)text.data, "FILE", &c);
    PROMISE(rc == 0 ||
            (rc == ERR_CONFIG && strstr(err_text(rc), "FILE") && text_is_clean(view_str(err_text(rc)))));
    if (rc)
        return 0;
    config_print(c, &printed);
    buf_u8(&printed, 0);
    PROMISE(printed.err == 0);
    PROMISE(config_parse_text((const char *)printed.data, "PRINTED", &again) == 0);
    PROMISE(config_changed(c, again, changed) == 0);
    config_free(c);
    config_free(again);
    return 0;
}
