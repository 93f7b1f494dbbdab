#include "common/control/answer.h"

#include <stdio.h>
#include <stdlib.h>

int control_request_parse(struct view text, struct control_request *ret_request)
{
    json_error_t e;
    struct control_request r = {0};
    r.json = json_loadb((const char *)text.data, text.len, JSON_REJECT_DUPLICATES, &e);
    if (!r.json)
        return err_fail(ERR_MALFORMED, "the request is not JSON: %s", e.text);
    json_t *args = json_object_get(r.json, "args");
    r.command = json_string_value(json_object_get(r.json, "command"));
    if (!args || json_is_null(args)) {
        args = json_object();
        if (json_object_set_new(r.json, "args", args) != 0)
            args = NULL;
    }
    r.args = args;
    if (!r.command || !json_is_object(r.args)) {
        json_decref(r.json);
        return err_fail(ERR_MALFORMED, "the request needs \"command\" (a text), and \"args\" is an object");
    }
    *ret_request = r;
    return 0;
}

void control_request_done(struct control_request *r)
{
    json_decref(r->json);
    *r = (struct control_request){0};
}

/* Takes the object. */
static struct blob *blob_of(json_t *answer)
{
    char *text = answer ? json_dumps(answer, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
    struct blob *b = text ? blob_new(text, strlen(text)) : NULL;
    free(text);
    json_decref(answer);
    return b;
}

struct blob *control_answer(const char *name, struct wall as_of, json_t *data, int exit_code, bool more)
{
    char schema[80], time[32];
    snprintf(schema, sizeof schema, "sitetree.%s/1", name);
    if (!data)
        return NULL;
    return blob_of(json_pack("{s:s, s:s, s:o, s:i, s:b}", "schema", schema, "as_of", wall_text(as_of, time),
        "data", data, "exit", exit_code, "more", more));
}

int control_exit_of(int code)
{
    return code == 0 ? 0 : code == ERR_USAGE ? 2 : code == ERR_TIMEOUT ? 4 : 1;
}

struct blob *control_error(int code, const char *hint)
{
    json_t *message = json_string(err_text(code));
    if (!message) /* not UTF-8: the sentence of the code always is */
        message = json_string(err_sentence(code));
    return blob_of(json_pack("{s:s, s:s, s:o, s:s, s:i, s:b}", "schema", "sitetree.error/1", "code",
        err_word(code), "message", message, "hint", hint ? hint : err_hint(code), "exit",
        control_exit_of(code), "more", 0));
}
