#include "services/node/setup.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "services/node/site_folder.h"

#define HEAD_NEXT "keys/head.key.next" /* until the trust statement names it */

struct central_keys {
    struct sign_key root, head, site;
    struct link_key link;
};

static int central_make(
    struct site_folder *p, const char *code, struct central_keys *k, struct hash *ret_hierarchy)
{
    int rc = site_folder_make(site_folder_path(p, "keys"));
    if (!rc)
        rc = site_folder_sync(p->dir);
    if (!rc)
        rc = site_folder_sign_key(p, "keys/root.key", &k->root);
    if (!rc)
        rc = site_folder_sign_key(p, "keys/head.key", &k->head);
    if (!rc)
        rc = site_folder_sign_key(p, "keys/site.key", &k->site);
    if (!rc)
        rc = site_folder_link_key(p, "keys/link.key", &k->link);
    if (rc)
        return rc;
    struct certificate cert = {.tier = TIER_CENTRAL, .serial = 1, .issued = clock_wall(&clock_real)};
    snprintf(cert.code.s, sizeof cert.code.s, "%s", code);
    memcpy(cert.sign_key, k->site.public, 32);
    memcpy(cert.link_key, k->link.public, 32);
    AUTO_BUF chain = {0};
    rc = trust_make(&k->root, 1, k->head.public, &cert, &chain);
    if (!rc)
        rc = file_write_whole(site_folder_path(p, CHAIN_FILE), buf_view(&chain), 0600);
    if (!rc)
        hierarchy_id(k->root.public, ret_hierarchy);
    return rc;
}

int setup_init_central(const char *dir, const char *code, struct hash *ret_hierarchy)
{
    struct site_folder p;
    CLEANUP(site_folder_unlock) int lock = -1;
    if (!site_code_valid(code))
        return err_fail(ERR_MALFORMED, "'%.40s' is not a site code (letters, digits, - _ . and at most %d)",
            code, SITE_CODE_MAX);
    int rc = crypto_init();
    if (!rc)
        rc = site_folder_lock(&p, dir, &lock);
    if (rc)
        return rc;
    if (site_folder_has(&p, CHAIN_FILE))
        return err_fail(ERR_EXISTS, "%s: there is a site in it already", p.dir);
    if (site_folder_has(&p, TOKEN_FILE))
        return err_fail(ERR_EXISTS, "%s: a join has begun in it; finish that, or take another folder", p.dir);
    rc = site_folder_check_empty(&p);
    if (rc)
        return rc;
    struct central_keys k;
    rc = central_make(&p, code, &k, ret_hierarchy);
    secret_wipe(&k, sizeof k);
    return rc;
}

/* The head key that the trust names: after a change that was cut short it still has its first name. */
static int head_key_load(struct site_folder *p, const uint8_t head_public[32], struct sign_key *ret_key)
{
    struct sign_key next;
    if (site_folder_has(p, HEAD_NEXT) && sign_key_load(p->path, &next) == 0 &&
        memcmp(next.public, head_public, 32) == 0) {
        char from[sizeof p->path];
        snprintf(from, sizeof from, "%s", p->path);
        if (rename(from, site_folder_path(p, "keys/head.key")) < 0)
            return err_fail(-errno, "%s: %s", from, strerror(errno));
        *ret_key = next;
        return 0;
    }
    int rc = sign_key_load(site_folder_path(p, "keys/head.key"), ret_key);
    if (!rc && memcmp(ret_key->public, head_public, 32) != 0)
        rc = err_fail(ERR_KEY, "%s is not the head key that the trust statement names", p->path);
    return rc;
}

static int load_keys(struct site_folder *p, const struct identity *id, struct node_keys *k)
{
    int rc = sign_key_load(site_folder_path(p, "keys/site.key"), &k->site);
    if (!rc)
        rc = link_key_load(site_folder_path(p, "keys/link.key"), &k->link);
    if (!rc && id->depth == 0) {
        rc = head_key_load(p, id->head_key, &k->head);
        k->has_head = rc == 0;
    }
    return rc;
}

/* What root changes in a folder belongs to the user that the folder belongs to; returns the id to go back to.
 */
static int become_owner(const char *dir, uid_t *ret_back)
{
    struct stat st;
    *ret_back = geteuid();
    if (geteuid() != 0 || stat(dir, &st) < 0 || st.st_uid == 0)
        return 0;
    return seteuid(st.st_uid) < 0 ? err_fail(-errno, "%s: %s", dir, strerror(errno)) : 0;
}

static int chain_load(struct site_folder *p, struct identity *ret_id)
{
    struct hash hierarchy;
    AUTO_BUF chain = {0};
    int rc = file_read_whole(site_folder_path(p, CHAIN_FILE), TRUST_BYTES_MAX, &chain);
    if (!rc)
        rc = chain_hierarchy(buf_view(&chain), &hierarchy);
    if (!rc)
        rc = chain_verify_bytes(buf_view(&chain), &hierarchy, ret_id);
    return err_wrap(rc, "%s/" CHAIN_FILE, p->dir);
}

static int root_load(
    struct site_folder *p, const char *root_path, const struct hash *hierarchy, struct sign_key *ret_root)
{
    struct hash mine;
    const char *path = root_path ? root_path : site_folder_path(p, "keys/root.key");
    int rc = sign_key_load(path, ret_root);
    if (rc)
        return rc;
    hierarchy_id(ret_root->public, &mine);
    return hash_eq(&mine, hierarchy) ? 0
                                     : err_fail(ERR_KEY, "%s is not the root key of this hierarchy", path);
}

static int rotate(
    struct site_folder *p, const struct identity *id, const struct sign_key *root, uint64_t version)
{
    struct sign_key head;
    AUTO_BUF next = {0};
    int rc = head_key_load(p, id->head_key, &head); /* one that is in force already gets its place first */
    if (!rc)
        rc = site_folder_sign_key(p, HEAD_NEXT, &head);
    if (!rc)
        rc = trust_make(root, version, head.public, &id->path[0], &next);
    secret_wipe(&head, sizeof head);
    if (!rc) /* from here on the new key is the one that counts; head_key_load puts it into its place */
        rc = file_write_whole(site_folder_path(p, CHAIN_FILE), buf_view(&next), 0600);
    return rc;
}

int setup_rotate_head(const char *dir, const char *root_path, uint64_t least, uint64_t *ret_version)
{
    struct site_folder p;
    struct identity id;
    struct sign_key root;
    uid_t back;
    CLEANUP(site_folder_unlock) int lock = -1;
    int rc = crypto_init();
    if (!rc)
        rc = site_folder_init(&p, dir);
    if (!rc)
        rc = chain_load(&p, &id);
    if (!rc && id.depth)
        rc = err_fail(ERR_NOT_CENTRAL, "the head key is changed at the central site %s; this is %s",
            id.path[0].code.s, identity_site(&id)->code.s);
    if (!rc && root_path) /* it may be one that only root can read */
        rc = root_load(&p, root_path, &id.hierarchy, &root);
    if (!rc)
        rc = become_owner(dir, &back);
    if (rc)
        return rc;
    rc = site_folder_lock(&p, dir, &lock);
    if (!rc)
        rc = chain_load(&p, &id); /* again, now that nobody else changes it */
    if (!rc && !root_path)
        rc = root_load(&p, NULL, &id.hierarchy, &root);
    uint64_t version = id.trust_version + 1 > least ? id.trust_version + 1 : least;
    if (!rc)
        rc = rotate(&p, &id, &root, version);
    secret_wipe(&root, sizeof root);
    if (geteuid() != back && seteuid(back) < 0 && !rc)
        rc = err_fail(-errno, "%s: %s", dir, strerror(errno));
    if (!rc)
        *ret_version = version;
    return rc;
}

int setup_load(const char *dir, struct node_options *opt, struct node_keys *ret_keys, struct buf *ret_chain)
{
    struct site_folder p;
    struct identity id;
    AUTO_BUF parents = {0};
    int rc = site_folder_init(&p, dir);
    if (rc)
        return rc;
    rc = file_read_whole(site_folder_path(&p, CHAIN_FILE), TRUST_BYTES_MAX, ret_chain);
    if (rc == ERR_NOT_FOUND)
        return err_fail(ERR_NOT_FOUND,
            "%s: there is no site in it yet; make one: sitetree site init --central CODE, or sitetree site "
            "join TOKEN",
            p.dir);
    if (!rc)
        rc = chain_hierarchy(buf_view(ret_chain), &opt->hierarchy);
    if (!rc)
        rc = chain_verify_bytes(buf_view(ret_chain), &opt->hierarchy, &id);
    if (rc)
        return err_wrap(rc, "%s/" CHAIN_FILE, p.dir);
    struct node_keys k = {.chain = buf_view(ret_chain)};
    rc = load_keys(&p, &id, &k);
    if (!rc && id.depth) {
        rc = file_read_whole(site_folder_path(&p, PARENTS_FILE), TRUST_BYTES_MAX, &parents);
        if (!rc)
            rc = joined_places(buf_view(&parents), opt->parents, &opt->n_parents);
        if (rc)
            rc = err_wrap(rc, "%s/" PARENTS_FILE, p.dir);
    }
    if (rc)
        return rc;
    opt->site = identity_site(&id)->code;
    snprintf(opt->tier, sizeof opt->tier, "%s", tier_word(identity_site(&id)->tier));
    *ret_keys = k;
    return 0;
}
