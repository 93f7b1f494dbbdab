/* Golden bytes: every message of proto/ and every type of frame, with every field set, as they were once
 * written to tests/vectors. Bytes that are signed, stored and relayed must never be read or written
 * differently. vectors_test VECTORS PROTO           compares vectors_test --write VECTORS PROTO   writes them
 * anew: after adding a field or a message, never to make a changed encoding pass */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/crypto/crypto.h"
#include "common/wire/frame.h"
#include "proto/catalogue.pb-c.h"
#include "proto/link.pb-c.h"
#include "proto/node.pb-c.h"
#include "proto/trust.pb-c.h"
#include "proto/worker.pb-c.h"

static const char *vectors, *proto;

/* clang-format off */
#define FILES(X) X(trust) X(link) X(catalogue) X(worker) X(node)
#define MESSAGES(X)                                                                                          \
    X(signed) X(trust) X(site_certificate) X(chain) X(token) X(place)                                        \
    X(hello) X(welcome) X(refusal) X(heartbeat) X(bye) X(site_report) X(reports) X(removal) X(join) X(joined) \
    X(update) X(update_file) X(head) X(scope_list) X(scope) X(recall) X(head_bytes) X(hint) X(delta_bytes)             \
    X(head_get) X(delta_get) X(delta_reply) X(page_get) X(page_want) X(page_reply) X(page_bytes)             \
    X(sync_request) X(sync_ack)                                                                              \
    X(worker_ready) X(site_info) X(link_state) X(sign_head) X(event_note) X(worker_status) X(control)        \
    X(control_reply)                                                                                         \
    X(stored_site) X(stored_places) X(stored_chain) X(stored_invite) X(stored_report) X(stored_event) X(stored_refusal) X(stored_signing)
/* clang-format on */

static const ProtobufCMessageDescriptor *const messages[] = {
#define ROW(name) &sitetree__##name##__descriptor,
    MESSAGES(ROW)
#undef ROW
};

/* --- a message with every field set, by its descriptor; a field's value depends on its number only
 * --------------- */

static void *grab(size_t size)
{
    void *p = calloc(1, size);
    assert_non_null(p);
    return p;
}

static ProtobufCMessage *filled(const ProtobufCMessageDescriptor *d, unsigned which);

static void fill(const ProtobufCFieldDescriptor *f, unsigned which, void *at)
{
    uint64_t n = f->id + which;
    switch (f->type) {
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_INT64:
        *(uint64_t *)at = UINT64_C(0x0102030405060700) + n;
        break;
    case PROTOBUF_C_TYPE_SINT64:
        *(int64_t *)at = -1000000007 * (int64_t)n;
        break;
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_ENUM:
        *(uint32_t *)at = (uint32_t)(1000 * n);
        break;
    case PROTOBUF_C_TYPE_SINT32:
        *(int32_t *)at = -1000 - (int32_t)n;
        break;
    case PROTOBUF_C_TYPE_BOOL:
        *(protobuf_c_boolean *)at = 1;
        break;
    case PROTOBUF_C_TYPE_STRING: {
        char *s = grab(32);
        snprintf(s, 32, "text-%u", (unsigned)n);
        *(char **)at = s;
        break;
    }
    case PROTOBUF_C_TYPE_BYTES: {
        ProtobufCBinaryData b = {.len = 16, .data = grab(16)};
        for (size_t i = 0; i < b.len; i++)
            b.data[i] = (uint8_t)(16 * n + i);
        *(ProtobufCBinaryData *)at = b;
        break;
    }
    case PROTOBUF_C_TYPE_MESSAGE:
        *(ProtobufCMessage **)at = filled(f->descriptor, which);
        break;
    default:
        fail_msg("field %s is of a type that no message used so far", f->name);
    }
}

static size_t size_of(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
        return 8;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    default:
        return 4;
    }
}

static ProtobufCMessage *filled(const ProtobufCMessageDescriptor *d, unsigned which)
{
    uint8_t *m = grab(d->sizeof_message);
    d->message_init((ProtobufCMessage *)m);
    for (unsigned i = 0; i < d->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &d->fields[i];
        if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
            fail_msg("%s.%s: no message had a oneof so far; choose what its golden bytes hold", d->short_name,
                f->name);
        } else if (f->label == PROTOBUF_C_LABEL_REPEATED) {
            uint8_t *two = grab(2 * size_of(f->type));
            fill(f, which, two);
            fill(f, which + 1, two + size_of(f->type));
            *(size_t *)(m + f->quantifier_offset) = 2;
            *(void **)(m + f->offset) = two;
        } else {
            fill(f, which, m + f->offset);
        }
    }
    return (ProtobufCMessage *)m;
}

static void release(ProtobufCMessage *m)
{
    const ProtobufCMessageDescriptor *d = m->descriptor;
    for (unsigned i = 0; i < d->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &d->fields[i];
        bool many = f->label == PROTOBUF_C_LABEL_REPEATED;
        uint8_t *at = (uint8_t *)m + f->offset, *list = many ? *(uint8_t **)at : NULL;
        for (unsigned k = 0; k < (many ? 2u : 1u); k++) {
            void *one = many ? list + k * size_of(f->type) : at;
            if (f->type == PROTOBUF_C_TYPE_STRING)
                free(*(char **)one);
            else if (f->type == PROTOBUF_C_TYPE_BYTES)
                free(((ProtobufCBinaryData *)one)->data);
            else if (f->type == PROTOBUF_C_TYPE_MESSAGE)
                release(*(ProtobufCMessage **)one);
        }
        if (many)
            free(list);
    }
    free(m);
}

/* --- the files: one "name hex" a line
 * ----------------------------------------------------------------------------- */

static void add_line(struct buf *out, const char *name, struct view bytes)
{
    static const char digits[] = "0123456789abcdef";
    buf_str(out, name);
    buf_u8(out, ' ');
    for (size_t i = 0; i < bytes.len; i++) {
        buf_u8(out, (uint8_t)digits[bytes.data[i] >> 4]);
        buf_u8(out, (uint8_t)digits[bytes.data[i] & 15]);
    }
    buf_u8(out, '\n');
}

static void messages_text(struct buf *out)
{
    for (size_t i = 0; i < COUNT_OF(messages); i++) {
        AUTO_BUF b = {0};
        ProtobufCMessage *m = filled(messages[i], 0);
        message_pack(m, &b);
        release(m);
        assert_int_equal(b.err, 0);
        add_line(out, messages[i]->short_name, buf_view(&b));
    }
}

static const struct epoch epoch = {{0xe0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}};
#define REQUEST(type) (UINT64_C(0x1122334455667700) + (type))

static struct blob *golden_frame(enum frame_type type, const ProtobufCMessageDescriptor *d)
{
    if (!d) /* a fragment's body is bytes */
        return frame_wrap(type, type % 4, REQUEST(type), &epoch, view_str("a piece of a frame"), false);
    ProtobufCMessage *m = filled(d, 0);
    struct blob *b = frame_pack(type, type % 4, REQUEST(type), &epoch, m, false);
    release(m);
    return b;
}

#define sitetree__NONE__descriptor (*(const ProtobufCMessageDescriptor *)NULL)
static const struct {
    enum frame_type type;
    const ProtobufCMessageDescriptor *body;
} frames[] = {
#define ROW(name, number, wire, raw, message) {name, &sitetree__##message##__descriptor},
    FRAME_TABLE(ROW)
#undef ROW
};

static void frames_text(struct buf *out)
{
    for (size_t i = 0; i < COUNT_OF(frames); i++) {
        AUTO_BLOB *b = golden_frame(frames[i].type, frames[i].body);
        if (!b)
            fail_msg("%s: %s", frame_type_word(frames[i].type), err_text(ERR_TOO_LARGE));
        char name[64];
        snprintf(name, sizeof name, "%u-%s", frames[i].type, frame_type_word(frames[i].type));
        add_line(out, name, blob_view(b));
    }
}

static void crypto_text(struct buf *out)
{
    static const char *const domains[] = {"record", "page", "head", "0123456789abcdef"};
    uint8_t salt[16], seed[32], sig[64];
    struct hash h;
    char name[64];
    for (uint8_t i = 0; i < 32; i++)
        seed[i] = i;
    memcpy(salt, seed, 16);
    for (size_t i = 0; i < COUNT_OF(domains); i++) {
        snprintf(name, sizeof name, "hash-%s", domains[i]);
        hash_bytes(domains[i], NULL, view_str("sitetree"), &h);
        add_line(out, name, view_of(h.b, 32));
        snprintf(name, sizeof name, "hash-salted-%s", domains[i]);
        hash_bytes(domains[i], salt, view_str("sitetree"), &h);
        add_line(out, name, view_of(h.b, 32));
    }
    struct sign_key key;
    sign_key_from_seed(seed, &key);
    add_line(out, "sign-public", view_of(key.public, 32));
    sign_detached(&key, "head", view_str("sitetree"), sig);
    add_line(out, "signature-head", view_of(sig, 64));
    hierarchy_id(key.public, &h);
    add_line(out, "hierarchy", view_of(h.b, 32));
    struct link_key link;
    link_key_from_seed(seed, &link);
    add_line(out, "link-public", view_of(link.public, 32));
    AUTO_BUF sum = {0};
    buf_be32(&sum, checksum32(view_str("sitetree")));
    add_line(out, "checksum", buf_view(&sum));
}

static const struct {
    const char *name;
    void (*text)(struct buf *out);
} files[] = {{"messages.hex", messages_text}, {"frames.hex", frames_text}, {"crypto.hex", crypto_text}};

static void golden(const char *name, struct buf *ret_text)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", vectors, name);
    if (file_read_whole(path, 1 << 20, ret_text))
        fail_msg("%s", err_text(ERR_NOT_FOUND));
    buf_u8(ret_text, 0);
    ret_text->len--;
}

/* Walks the lines of a file; returns false at the end. */
static bool next_line(char **at, char name[64], struct buf *ret_bytes)
{
    int used = 0, start = 0;
    if (!**at)
        return false;
    assert_int_equal(sscanf(*at, "%63s %n%*[0-9a-f]%n", name, &start, &used), 1);
    assert_true(used > start && (*at)[used] == '\n');
    (*at)[used] = 0;
    size_t len = (size_t)(used - start) / 2;
    buf_reset(ret_bytes);
    buf_reserve(ret_bytes, len);
    assert_int_equal(hex_decode(*at + start, ret_bytes->data, len), 0);
    ret_bytes->len = len;
    *at += used + 1;
    return true;
}

static void test_bytes_as_ever(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        AUTO_BUF want = {0}, have = {0};
        char name[64], now_name[64];
        golden(files[i].name, &want);
        files[i].text(&have);
        buf_u8(&have, 0);
        assert_int_equal(have.err, 0);
        char *a = (char *)want.data, *b = (char *)have.data;
        AUTO_BUF old = {0}, now = {0};
        while (next_line(&b, now_name, &now)) {
            if (!next_line(&a, name, &old) || strcmp(name, now_name) ||
                !view_eq(buf_view(&old), buf_view(&now)))
                fail_msg("%s: %s is not as in tests/vectors. Was a field or a message added on purpose? Then "
                         "write "
                         "the vectors anew: vectors_test --write tests/vectors proto",
                    files[i].name, now_name);
        }
        assert_false(next_line(&a, name, &old));
    }
}

static void test_old_bytes_decode(void **state)
{
    (void)state;
    AUTO_BUF text = {0}, bytes = {0}, again = {0};
    char name[64];
    golden("messages.hex", &text);
    char *at = (char *)text.data;
    size_t n = 0;
    while (next_line(&at, name, &bytes)) {
        const ProtobufCMessageDescriptor *d = NULL;
        for (size_t i = 0; i < COUNT_OF(messages); i++)
            if (strcmp(messages[i]->short_name, name) == 0)
                d = messages[i];
        assert_non_null(d);
        AUTO_ARENA a = {0};
        arena_init(&a);
        int rc = 0;
        ProtobufCMessage *m = message_unpack(&a, buf_view(&bytes), bytes.len, d, &rc);
        assert_non_null(m);
        assert_int_equal(m->n_unknown_fields, 0);
        buf_reset(&again);
        message_pack(m, &again);
        assert_true(view_eq(buf_view(&bytes), buf_view(&again)));
        for (size_t cut = 0; cut < bytes.len; cut++) { /* never a crash; what decodes is shorter */
            arena_reset(&a);
            m = message_unpack(&a, view_of(bytes.data, cut), bytes.len, d, &rc);
            assert_true(m ? protobuf_c_message_get_packed_size(m) <= cut : rc == ERR_MALFORMED);
        }
        n++;
    }
    assert_int_equal(n, COUNT_OF(messages));
}

static void test_old_frames_parse(void **state)
{
    (void)state;
    AUTO_BUF text = {0}, bytes = {0};
    char name[64];
    golden("frames.hex", &text);
    char *at = (char *)text.data;
    for (size_t i = 0; next_line(&at, name, &bytes); i++) {
        struct frame f;
        assert_int_equal(frame_parse(buf_view(&bytes), &f), 0);
        assert_int_equal(f.type, frames[i].type);
        assert_true(f.request == REQUEST(f.type) && epoch_eq(&f.epoch, &epoch));
        assert_int_equal(f.lane, f.type % 4);
        assert_string_equal(strchr(name, '-') + 1, frame_type_word(f.type));
    }
}

/* The list above against the files themselves: a new message or file must get its golden bytes. */
static void test_all_messages_are_listed(void **state)
{
    (void)state;
    static const char *const known[] = {
#define ROW(name) #name ".proto",
        FILES(ROW)
#undef ROW
    };
    size_t found = 0, n_files = 0;
    DIR *folder = opendir(proto);
    assert_non_null(folder);
    for (struct dirent *e; (e = readdir(folder));) {
        if (!strstr(e->d_name, ".proto"))
            continue;
        bool listed = false;
        for (size_t i = 0; i < COUNT_OF(known); i++)
            listed |= strcmp(known[i], e->d_name) == 0;
        if (!listed)
            fail_msg("proto/%s has no golden bytes", e->d_name);
        n_files++;
        char path[4096], line[1024], name[64];
        snprintf(path, sizeof path, "%s/%s", proto, e->d_name);
        FILE *f = fopen(path, "r");
        assert_non_null(f);
        while (fgets(line, sizeof line, f)) {
            if (sscanf(line, " message %63[A-Za-z0-9_]", name) != 1)
                continue;
            bool have = false;
            for (size_t i = 0; i < COUNT_OF(messages); i++)
                have |= strcmp(messages[i]->short_name, name) == 0;
            if (!have)
                fail_msg("message %s of proto/%s has no golden bytes", name, e->d_name);
            found++;
        }
        fclose(f);
    }
    closedir(folder);
    assert_int_equal(n_files, COUNT_OF(known));
    assert_int_equal(found, COUNT_OF(messages));
}

static int write_all(void)
{
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        AUTO_BUF b = {0};
        char path[4096];
        files[i].text(&b);
        snprintf(path, sizeof path, "%s/%s", vectors, files[i].name);
        if (b.err || file_write_whole(path, buf_view(&b), 0644)) {
            fprintf(stderr, "%s\n", err_text(b.err));
            return 1;
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    bool writing = argc == 4 && strcmp(argv[1], "--write") == 0;
    if ((argc != 3 && !writing) || crypto_init())
        return 2;
    vectors = argv[argc - 2];
    proto = argv[argc - 1];
    if (writing)
        return write_all();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_as_ever),
        cmocka_unit_test(test_old_bytes_decode),
        cmocka_unit_test(test_old_frames_parse),
        cmocka_unit_test(test_all_messages_are_listed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
