/* A toy for the world's own tests: a counter that floods down the tree, each step of it with a record of its
 * own. With a switch for each way to break a property, so that the tests can see the world notice. */
#pragma once
#include "tests/lib/world.h"

struct toy_config {
    int64_t poll_ns;     /* asks the parent this often; default 60 s */
    bool announce_early; /* says its generation before it is committed (P5) */
    bool go_back;        /* a child applies what is older (P2) */
    bool forget_records; /* a child takes the generation without the records (P3) */
    bool invent;         /* a child counts by itself (P1) */
    bool flood;          /* a parent answers each request a thousand times (P11) */
};
extern const struct world_core world_toy;
