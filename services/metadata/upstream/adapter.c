#include "services/metadata/source.h"

#include <stdio.h>

const struct adapter *adapter_find(const char *kind)
{
    static const struct adapter *const all[] = {&adapter_apt, &adapter_directory};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        if (strcmp(all[i]->kind, kind) == 0)
            return all[i];
    return NULL;
}

/* The config for one component and architecture, with a name of its own where there are several. */
static json_t *single(
    json_t *config, json_t *component, json_t *architecture, bool say_component, bool say_architecture)
{
    char name[200];
    const char *base = json_string_value(json_object_get(config, "name"));
    json_t *one = json_copy(config);
    if (one && json_object_size(one) != json_object_size(config)) { /* json_copy hides a lack of memory */
        json_decref(one);
        return NULL;
    }
    if (!one)
        return NULL;
    int n = snprintf(name, sizeof name, "%.100s", base ? base : "");
    if (say_component)
        n += snprintf(name + n, sizeof name - (size_t)n, "-%.60s", json_string_value(component));
    if (say_architecture)
        snprintf(name + n, sizeof name - (size_t)n, "-%.30s", json_string_value(architecture));
    bool bad = base && json_object_set_new(one, "name", json_string(name));
    bad = bad || (component && json_object_set_new(one, "components", json_pack("[O]", component)));
    bad = bad || (architecture && json_object_set_new(one, "architectures", json_pack("[O]", architecture)));
    if (bad)
        json_decref(one);
    return bad ? NULL : one;
}

static int check_list(json_t *list, const char *field)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!json_is_string(json_array_get(list, i)))
            return err_fail(ERR_USAGE, "%s: not a list of texts", field);
    return 0;
}

int source_split(json_t *config, json_t **ret_list)
{
    json_t *components = json_object_get(config, "components"),
           *architectures = json_object_get(config, "architectures");
    int rc = check_list(components, "components");
    rc = rc ? rc : check_list(architectures, "architectures");
    if (rc)
        return rc;
    size_t nc = json_array_size(components), na = json_array_size(architectures);
    json_t *list = json_array();
    for (size_t c = 0; list && c < (nc ? nc : 1); c++)
        for (size_t a = 0; a < (na ? na : 1); a++)
            if (json_array_append_new(list, single(config, json_array_get(components, c),
                                                json_array_get(architectures, a), nc > 1, na > 1))) {
                json_decref(list);
                return -ENOMEM;
            }
    if (!list)
        return -ENOMEM;
    *ret_list = list;
    return 0;
}
