#include "services/metadata/upstream/apt_verify.h"

#include "common/crypto/crypto.h"
#include "services/metadata/upstream/apt_keyring.h"
#include "services/metadata/upstream/apt_release.h"
#include "services/metadata/upstream/child.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#define GPGV_TIMEOUT (60 * NS_PER_S)

int apt_keyring_check(const char *keyring)
{
    struct keyrings k;
    int rc = keyrings_open(keyring, NULL, &k);
    return rc == ERR_CONFIG ? err_fail(ERR_USAGE, "%s", err_text(rc)) : rc;
}

/* A clear-signed file must be one message and nothing besides: what stands outside the signed part would
 * otherwise look as if it were vouched for. */
int apt_verify_form(const char *label, struct view v)
{
    static const char begin[] = "-----BEGIN PGP SIGNED MESSAGE-----",
                      sign[] = "-----BEGIN PGP SIGNATURE-----", end[] = "-----END PGP SIGNATURE-----";
    static const char *const marks[] = {begin, sign, end};
    size_t at = 0;
    if (v.len < sizeof begin || memcmp(v.data, begin, sizeof begin - 1) != 0)
        return err_fail(ERR_UPSTREAM_SIGNATURE, "%s: not signed", label);
    const uint8_t *p = v.data, *stop = v.data + v.len;
    while (p < stop) {
        const uint8_t *nl = memchr(p, '\n', (size_t)(stop - p));
        size_t len = (size_t)((nl ? nl : stop) - p);
        while (len && (p[len - 1] == '\r' || p[len - 1] == ' '))
            len--;
        bool mark = at < COUNT_OF(marks) && len == strlen(marks[at]) && memcmp(p, marks[at], len) == 0;
        if (mark)
            at++;
        else if ((len > 5 && memcmp(p, "-----", 5) == 0) || (at == COUNT_OF(marks) && len))
            return err_fail(
                ERR_UPSTREAM_SIGNATURE, "%s: not one clear-signed message and nothing else", label);
        p = nl ? nl + 1 : stop;
    }
    if (at != COUNT_OF(marks))
        return err_fail(ERR_UPSTREAM_SIGNATURE, "%s: the signature is cut off", label);
    return 0;
}

struct verdict {
    unsigned good, bad;
    bool good_line;
    char signer[80], reason[128], unknown[48];
};

static bool is_allowed(const char *list, const char *fingerprint, const char *primary)
{
    if (!list || !*list)
        return true;
    char copy[2048], *at = copy, *part;
    snprintf(copy, sizeof copy, "%s", list);
    while ((part = strsep(&at, ",")))
        if (strlen(part) >= 40 && (strcasecmp(part, fingerprint) == 0 || strcasecmp(part, primary) == 0))
            return true;
    return false;
}

/* fingerprint, date, timestamp, expiry, version, reserved, public key and hash algorithm, class, primary key
 */
static void on_valid(const struct apt_trust *t, const char *args, struct verdict *v)
{
    char fingerprint[80], primary[80];
    int hash;
    if (sscanf(args, "%79s %*s %*s %*s %*s %*s %*s %d %*s %79s", fingerprint, &hash, primary) != 3)
        return;
    if (hash == 1 || hash == 2 || hash == 3) {
        snprintf(v->reason, sizeof v->reason, "signed with a broken digest (MD5, SHA-1 or RIPEMD-160)");
        return;
    }
    if (!is_allowed(t->fingerprints, fingerprint, primary)) {
        snprintf(v->unknown, sizeof v->unknown, "%.40s", primary);
        return;
    }
    if (v->good++ == 0)
        snprintf(v->signer, sizeof v->signer, "%s", primary);
}

static void on_status(const struct apt_trust *t, const char *line, struct verdict *v)
{
    char word[32] = "", key[48] = "";
    int n = 0;
    sscanf(line, "%31s %n", word, &n);
    sscanf(line + n, "%47s", key);
    if (strcmp(word, "NEWSIG") == 0) {
        v->good_line = false;
    } else if (strcmp(word, "GOODSIG") == 0) {
        v->good_line = true;
    } else if (strcmp(word, "VALIDSIG") == 0 && v->good_line) {
        on_valid(t, line + n, v);
    } else if (strcmp(word, "BADSIG") == 0) {
        v->bad++;
        snprintf(
            v->reason, sizeof v->reason, "altered or damaged: the signature of key %s does not match", key);
    } else if (strcmp(word, "NO_PUBKEY") == 0) {
        snprintf(v->unknown, sizeof v->unknown, "%s", key);
    } else if (strcmp(word, "EXPKEYSIG") == 0) {
        snprintf(v->reason, sizeof v->reason, "signed by key %s, which has expired", key);
    } else if (strcmp(word, "REVKEYSIG") == 0) {
        v->bad++;
        snprintf(v->reason, sizeof v->reason, "signed by key %s, which was revoked", key);
    } else if (strcmp(word, "EXPSIG") == 0) {
        snprintf(v->reason, sizeof v->reason, "the signature of key %s has expired", key);
    }
}

int apt_verify_judge(const struct apt_trust *t, const char *label, struct buf *status, char ret_signer[80])
{
    struct verdict v = {0};
    buf_u8(status, 0);
    if (status->err)
        return status->err;
    char *at = (char *)status->data, *line;
    while ((line = strsep(&at, "\n")))
        if (strncmp(line, "[GNUPG:] ", 9) == 0)
            on_status(t, line + 9, &v);
    if (v.good && !v.bad) {
        memcpy(ret_signer, v.signer, sizeof v.signer);
        return 0;
    }
    if (v.reason[0])
        return err_fail(ERR_UPSTREAM_SIGNATURE, "%s: %s", label, v.reason);
    if (v.unknown[0])
        return err_fail(ERR_UPSTREAM_SIGNATURE, "%s: signed by unknown key %s (not in %.200s)", label,
            v.unknown, t->keyring[0] == '/' ? t->keyring : "the keyring");
    return err_fail(ERR_UPSTREAM_SIGNATURE, "%s: no signature that gpgv accepts", label);
}

static int run_gpgv(const struct apt_trust *t, const struct keyrings *k, const char *output, const char *file,
    const char *signature, struct buf *ret_status)
{
    const char *argv[2 * KEYRINGS_MAX + 16];
    size_t n = 0;
    const char *const first[] = {"gpgv", "--quiet", "--status-fd", "1", "--homedir", t->dir};
    for (size_t i = 0; i < COUNT_OF(first); i++)
        argv[n++] = first[i];
    for (size_t i = 0; i < k->n; i++) {
        argv[n++] = "--keyring";
        argv[n++] = k->path[i];
    }
    if (!signature) {
        argv[n++] = "--output";
        argv[n++] = output;
    }
    argv[n++] = "--";
    if (signature)
        argv[n++] = signature;
    argv[n++] = file;
    argv[n] = NULL;
    int exit_code;
    /* The exit code is that of the worst signature: a second key that the keyring lacks is no fault. */
    int rc = child_run(argv, 256 * 1024, GPGV_TIMEOUT, t->cancel, ret_status, &exit_code);
    if (rc == ERR_NOT_FOUND)
        return err_fail(ERR_CONFIG, "gpgv is not installed; mend it with: apt install gpgv");
    return rc;
}

int apt_verify(const struct apt_trust *t, const char *label, const char *file, const char *signature,
    struct buf *ret_text, char ret_signer[80])
{
    AUTO_BUF status = {0};
    AUTO_BUF content = {0};
    char output[4096];
    struct keyrings k;
    char signer[80];
    if (snprintf(output, sizeof output, "%s/signed-text", t->dir) >= (int)sizeof output)
        return err_fail(-ENAMETOOLONG, "%s: name too long", t->dir);
    int rc = file_read_whole(file, RELEASE_MAX, &content);
    if (!rc && !signature)
        rc = apt_verify_form(label, buf_view(&content));
    if (rc)
        return rc;
    if ((rc = keyrings_open(t->keyring, t->dir, &k)))
        return rc;
    unlink(output);
    rc = run_gpgv(t, &k, output, file, signature, &status);
    keyrings_done(&k);
    if (!rc)
        rc = apt_verify_judge(t, label, &status, signer);
    if (!rc && !signature)
        rc = file_read_whole(output, RELEASE_MAX, &content);
    unlink(output);
    if (rc)
        return rc;
    memcpy(ret_signer, signer, sizeof signer);
    buf_done(ret_text);
    *ret_text = content;
    content = (struct buf){0};
    return 0;
}
