/* The views of the commands. */
#pragma once
#include "tools/sitetree/view.h"

extern const struct screen view_status, view_tree, view_links, view_site_list, view_site_show, view_invite,
    view_invites, view_revoke, view_site_removed, view_events, view_explain, view_sync_now, view_sync_status,
    view_sync_list, view_sync_show, view_sync_cancel, view_upstream_added, view_upstream_list,
    view_upstream_removed, view_upstream_test, view_filter, view_published, view_update_changed, view_update,
    view_updates, view_catalogue, view_scopes, view_counts, view_verify, view_store, view_findings,
    view_reload, view_sync_decided, view_plan, view_repair, view_trust, view_trust_rotated, view_recall,
    view_recalls, view_epoch, view_backup, view_restored;
