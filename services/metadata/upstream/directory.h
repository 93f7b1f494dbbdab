/* What the parts of the local publisher share: the names of updates and publishers. Ownership: borrows. */
#pragma once
#include "services/metadata/source.h"

/* 1 to 31 of letters, digits and . _ -, beginning with a letter or digit. */
bool publisher_is_valid(const char *s);
/* The last part of the id of a local update: 1 to 100 of letters, digits and . _ + ~ : -; it is a file name
 * too. */
bool update_id_is_valid(const char *s);
/* The last part of local/<publisher>/<id>; the text itself when it is not of this publisher. */
const char *update_short_id(const char *id, const char *publisher);
