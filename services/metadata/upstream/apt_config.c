#include "services/metadata/upstream/apt_config.h"

#include "common/base/id.h"
#include "services/metadata/upstream/apt_fetch.h"
#include "services/metadata/upstream/apt_verify.h"
#include "services/metadata/upstream/child.h"

#include <stdio.h>
#include <sys/utsname.h>

bool classification_is_known(const char *word)
{
    static const char *const words[] = {"critical", "security", "updates", "definition", "feature-packs",
        "service-packs", "tools", "rollups", "upgrades"};
    for (size_t i = 0; i < COUNT_OF(words); i++)
        if (strcmp(words[i], word) == 0)
            return true;
    return false;
}

int apt_architecture(atomic_bool *cancel, char ret_name[32])
{
    AUTO_BUF out = {0};
    static const char *const argv[] = {"dpkg", "--print-architecture", NULL};
    int exit_code;
    int rc = child_run(argv, 64, 10 * NS_PER_S, cancel, &out, &exit_code);
    if (rc == -ENOMEM || rc == ERR_CANCELLED)
        return rc;
    if (!rc && exit_code == 0 && out.len > 1 && out.len < 32) {
        snprintf(ret_name, 32, "%.*s", (int)(out.len - 1), (const char *)out.data);
        return 0;
    }
    struct utsname u;
    bool arm = uname(&u) == 0 && strcmp(u.machine, "aarch64") == 0;
    snprintf(ret_name, 32, "%s", arm ? "arm64" : "amd64");
    return 0;
}

/* Characters that may stand in a path of the repository, besides letters and digits. */
static bool is_word(const char *s, const char *also, size_t max)
{
    size_t n = strlen(s);
    for (size_t i = 0; i < n; i++)
        if (!((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') || (s[i] >= '0' && s[i] <= '9') ||
                strchr(also, s[i])))
            return false;
    return n > 0 && n <= max && s[0] != '/' && s[n - 1] != '/' && !strstr(s, "..");
}

static int get_text(json_t *config, const char *name, const char **ret_text)
{
    json_t *v = json_object_get(config, name);
    *ret_text = "";
    if (!v || json_is_null(v))
        return 0;
    if (!json_is_string(v) || strlen(json_string_value(v)) != json_string_length(v) ||
        !text_is_clean(view_str(json_string_value(v))))
        return err_fail(ERR_USAGE, "%s: not a text", name);
    *ret_text = json_string_value(v);
    return 0;
}

/* A list of one text, or the text alone. */
static int get_only(json_t *config, const char *name, const char **ret_text)
{
    json_t *v = json_object_get(config, name);
    if (!json_is_array(v))
        return get_text(config, name, ret_text);
    *ret_text = "";
    if (json_array_size(v) > 1)
        return err_fail(ERR_USAGE, "%s: one upstream has one of them; add one upstream for each", name);
    if (json_array_size(v) == 0)
        return 0;
    json_t *one = json_array_get(v, 0);
    if (!json_is_string(one))
        return err_fail(ERR_USAGE, "%s: not a list of texts", name);
    *ret_text = json_string_value(one);
    return 0;
}

static int check_uri(const char *uri)
{
    char scheme[16], host[256];
    if (!*uri)
        return err_fail(ERR_USAGE, "uri: missing");
    if (!uri_split(uri, scheme, host) ||
        (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0 && strcmp(scheme, "file") != 0))
        return err_fail(ERR_USAGE, "uri: '%.200s' does not begin with http://, https:// or file://", uri);
    if (strcmp(scheme, "file") == 0 ? strncmp(uri, "file:///", 8) != 0 : !host[0])
        return err_fail(ERR_USAGE, "uri: '%.200s' names no %s", uri, host[0] ? "absolute path" : "host");
    if (strlen(uri) > 800 || strpbrk(uri, " \t\n?#"))
        return err_fail(ERR_USAGE, "uri: too long, or with blanks, ? or #");
    return 0;
}

static int check_words(const struct apt_config *c, const char *architecture)
{
    if (!*c->suite)
        return err_fail(ERR_USAGE, "suite: missing");
    if (!is_word(c->suite, "-._+~/", 64))
        return err_fail(ERR_USAGE, "suite: '%.64s' is not the name of a suite", c->suite);
    if (!is_word(c->component, "-._+/", 64))
        return err_fail(ERR_USAGE, "components: '%.64s' is not the name of a component", c->component);
    if (*architecture && !is_word(architecture, "-", 24))
        return err_fail(ERR_USAGE, "architectures: '%.64s' is not the name of an architecture", architecture);
    if (!*c->keyring)
        return err_fail(ERR_USAGE, "keyring: missing (the file with the keys that may sign this repository)");
    if (*c->classification && !classification_is_known(c->classification))
        return err_fail(ERR_USAGE,
            "classification: '%.64s' is not one of critical, security, updates, definition, "
            "feature-packs, service-packs, tools, rollups, upgrades",
            c->classification);
    if (strlen(c->product) > 100)
        return err_fail(ERR_USAGE, "product: longer than 100 bytes");
    return 0;
}

int apt_config_parse(json_t *config, bool deep, atomic_bool *cancel, struct apt_config *ret_config)
{
    struct apt_config c = {0};
    const char *architecture = "";
    const struct {
        const char *name, **text;
    } texts[] = {
        {"uri", &c.uri},
        {"suite", &c.suite},
        {"keyring", &c.keyring},
        {"fingerprints", &c.fingerprints},
        {"product", &c.product},
        {"classification", &c.classification},
    };
    int rc = json_is_object(config) ? 0 : err_fail(ERR_USAGE, "an upstream is a JSON object");
    for (size_t i = 0; !rc && i < COUNT_OF(texts); i++)
        rc = get_text(config, texts[i].name, texts[i].text);
    if (!rc)
        rc = get_only(config, "components", &c.component);
    if (!rc)
        rc = get_only(config, "architectures", &architecture);
    if (rc)
        return rc;
    if (!*c.component)
        c.component = "main";
    c.ignore_expiry = json_is_false(json_object_get(config, "check_valid_until"));
    rc = check_uri(c.uri);
    if (!rc)
        rc = check_words(&c, architecture);
    if (!rc && deep)
        rc = apt_keyring_check(c.keyring);
    if (rc)
        return rc;
    if (*architecture)
        snprintf(c.architecture, sizeof c.architecture, "%s", architecture);
    else if (deep && (rc = apt_architecture(cancel, c.architecture)))
        return rc;
    *ret_config = c;
    return 0;
}
