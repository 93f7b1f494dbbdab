/* Nodes in the world: each site has keys, a certificate chain and places of its own, joins with a real token
 * over the real messages, and its node's core stands between the links and the worker. Ownership and
 * threading: as world.h. */
#pragma once
#include "services/node/node.h"
#include "tests/lib/world_catalogue.h"

extern const struct world_core world_node;

/* A world of nodes and metadata workers with its central site in it, started. opt->config as in
 * world_catalogue_new, opt->node_config is a struct node_options or NULL; what differs from site to site is
 * filled in. */
struct world *world_full_new(const struct world_options *opt, const char *central);
/* Invites at the parent, joins and starts the site (added when the world does not have it). 0, or what the
 * parent or the check of its answer refused. */
int world_join(struct world *w, const char *code, const char *parent);
/* The two halves of it: the token (owned by the caller, NULL when the parent refused), and the joining with
 * one. */
char *world_invite(struct world *w, const char *code, const char *parent);
int world_join_with(struct world *w, const char *code, const char *parent, const char *token);
/* For world_trust.c: what the certificate of the site must say, and its folder's next trust. */
struct certificate;
void world_full_certificate(struct world_site *s, struct certificate *c);
void world_full_trust(struct world_site *s, struct view chain);
/* The head that a site holds, as a hint without deltas; NULL: none. The caller owns it. */
struct blob *world_hint_of(struct world *w, const char *code);
/* A site of the tree goes below another parent, with everything that it has, and starts again. */
int world_move_site(struct world *w, const char *code, const char *parent);
/* What the node of a site looks like. */
struct node_view world_node_view(struct world *w, const char *code);
