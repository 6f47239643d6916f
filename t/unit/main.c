
/*
 * Copyright (C) The nginx-bog authors
 */


#include "unit.h"


uint32_t
unit_random(uint64_t *seed)
{
    uint64_t  x;

    x = (*seed += 0x9e3779b97f4a7c15ull);

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;

    return (uint32_t) (x >> 32);
}


int
unit_zero(const void *p, size_t size)
{
    const char  *c;

    c = p;

    return size == 0 || (c[0] == 0 && memcmp(c, c + 1, size - 1) == 0);
}


int
main(void)
{
    int  failed;

    failed = unit_memory();
    failed += unit_request();
    failed += unit_answer();
    failed += unit_pool();
    failed += unit_error();
    failed += unit_policy();
    failed += unit_history();
    failed += unit_restore();
    failed += unit_state();

    return failed ? 1 : 0;
}
