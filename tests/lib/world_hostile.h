/* A hostile relay in the world: a site whose links down are in the hands of an attacker. It has valid keys of
 * the links and all that ever went over them, but no key that signs heads. The site itself stays honest and
 * is checked as all others are. What the attacker may reach is delay; protocol.md 1, P9. Ownership and
 * threading: as world.h. */
#pragma once
#include "tests/lib/world.h"

enum world_attack {
    ATTACK_REPLAY,  /* old heads, hints, deltas, pages and requests in place of new ones */
    ATTACK_FORK,    /* heads of another line, signed by the real key: the same generation, the next, an old
                       epoch */
    ATTACK_OMIT,    /* answers, hints and questions are swallowed */
    ATTACK_MIX,     /* scope lists, deltas and pages of one generation under the names of another */
    ATTACK_ALTER,   /* bits are turned, in the frame as it is or in the body, framed again */
    ATTACK_DRIP,    /* each frame comes late, up to ten minutes */
    ATTACK_ENDLESS, /* far more than was asked for: pages, garbage, unknown types, the same again */
    ATTACK_FORWARD, /* a head of a huge generation, signed by another key or by none */
    ATTACK_SCOPE,   /* the right bytes under the name of another scope */
    ATTACK_TRUST,   /* an old trust statement, or one of a made-up root key, and a head of the key it names */
    ATTACK_LOOP,    /* the relay says that its way up leads through the child (where there are nodes) */
    ATTACK_COUNT
};
#define ATTACK_ALL ((1u << ATTACK_COUNT) - 1)

/* From now on frames below this site are attacked in these ways (bits 1 << enum world_attack); 0: not any
 * more. What passes is remembered from the first call on, so 0 only remembers. */
void world_hostile(struct world *w, const char *code, unsigned attacks);
const char *world_attack_word(enum world_attack a);
/* How often it was tried so far, by all sites. */
unsigned world_attacks_made(struct world *w, enum world_attack a);
