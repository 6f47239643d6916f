
/*
 * Copyright (C) The nginx-bog authors
 */


#include "unit.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include <sanitizer/asan_interface.h>


/* set by the linker's --wrap */

int __real_madvise(void *p, size_t size, int advice);
int __real_munmap(void *p, size_t size);
int __wrap_madvise(void *p, size_t size, int advice);
int __wrap_munmap(void *p, size_t size);
void *__real_bog_pool_alloc(bog_pool_t *pool, size_t size);
void *__wrap_bog_pool_alloc(bog_pool_t *pool, size_t size);


size_t  unit_pool_left = SIZE_MAX;


static int     unit_madvise_error;
static int     unit_unmapped;
static int     unit_unmapped_dirty;       /* ever */
static size_t  unit_unmapped_size;


int
__wrap_madvise(void *p, size_t size, int advice)
{
    if (unit_madvise_error) {
        errno = unit_madvise_error;
        return -1;
    }

    return __real_madvise(p, size, advice);
}


int
__wrap_munmap(void *p, size_t size)
{
    ASAN_UNPOISON_MEMORY_REGION(p, size);

    unit_unmapped++;
    unit_unmapped_size = size;
    unit_unmapped_dirty |= !unit_zero(p, size);

    return __real_munmap(p, size);
}


void *
__wrap_bog_pool_alloc(bog_pool_t *pool, size_t size)
{
    char  *p;

    if (size > unit_pool_left) {
        errno = ENOMEM;
        return NULL;
    }

    unit_pool_left -= size;

    p = __real_bog_pool_alloc(pool, size + 16);

    if (p) {
        ASAN_POISON_MEMORY_REGION(p + size, 16);
    }

    return p;
}


void
unit_destroy(bog_pool_t *pool)
{
    int  least;

    least = (pool->chunks != NULL);
    unit_unmapped = 0;

    bog_pool_destroy(pool);

    assert_null(pool->chunks);
    assert_true(unit_unmapped >= least);
    assert_false(unit_unmapped_dirty);

    unit_pool_left = SIZE_MAX;
}


int
unit_vm_flag(const void *p, const char *flag)
{
    int            inside, found;
    char           line[512];
    FILE          *f;
    unsigned long  from, to;

    f = fopen("/proc/self/smaps", "r");
    assert_non_null(f);

    inside = 0;
    found = 0;

    while (fgets(line, sizeof(line), f)) {

        if (sscanf(line, "%lx-%lx ", &from, &to) == 2) {
            inside = (uintptr_t) p >= from && (uintptr_t) p < to;

        } else if (inside && strncmp(line, "VmFlags:", 8) == 0) {
            found = (strstr(line + 8, flag) != NULL);
        }
    }

    fclose(f);

    return found;
}


static void
test_alloc(void **state)
{
    char    *p;
    size_t   i, page;

    static size_t  sizes[] = { 1, 15, 4095, 4096, 4097, 65536, 1000000 };

    (void) state;

    page = (size_t) sysconf(_SC_PAGESIZE);

    for (i = 0; i < unit_count(sizes); i++) {
        p = bog_memory_alloc(sizes[i]);

        assert_non_null(p);
        assert_int_equal((uintptr_t) p % page, 0);
        assert_true(unit_zero(p, sizes[i]));

        memset(p, 0xa5, sizes[i]);

        bog_memory_free(p, sizes[i]);
    }
}


static void
test_alloc_excluded(void **state)
{
    char  *p, *last;

    (void) state;

    p = bog_memory_alloc(3 * 4096 + 1);
    assert_non_null(p);

    last = p + 3 * 4096;

    assert_true(unit_vm_flag(p, " dd"));
    assert_true(unit_vm_flag(last, " dd"));

    bog_memory_free(p, 3 * 4096 + 1);
}


static void
test_alloc_refused(void **state)
{
    void  *p;

    (void) state;

    unit_madvise_error = EINVAL;
    unit_unmapped = 0;

    p = bog_memory_alloc(10000);

    unit_madvise_error = 0;

    assert_null(p);
    assert_int_equal(errno, EINVAL);
    assert_int_equal(unit_unmapped, 1);
}


static void
test_alloc_too_large(void **state)
{
    (void) state;

    errno = 0;
    assert_null(bog_memory_alloc(SIZE_MAX));
    assert_int_equal(errno, ENOMEM);

    errno = 0;
    assert_null(bog_memory_alloc(SIZE_MAX - 4096));
    assert_int_not_equal(errno, 0);
}


static void
test_release(void **state)
{
    char    *p;
    size_t   page;

    (void) state;

    page = (size_t) sysconf(_SC_PAGESIZE);

    p = bog_memory_alloc(page + 1);
    assert_non_null(p);

    /* the last page is the caller's as a whole */

    memset(p, 0xa5, 2 * page);

    unit_unmapped = 0;

    bog_memory_free(p, page + 1);

    assert_int_equal(unit_unmapped, 1);
    assert_int_equal(unit_unmapped_size, 2 * page);
    assert_false(unit_unmapped_dirty);

    bog_memory_free(NULL, page);

    assert_int_equal(unit_unmapped, 1);
}


static void
test_wipe(void **state)
{
    char  buf[64];

    (void) state;

    memset(buf, 'x', sizeof(buf));

    bog_memory_wipe(buf + 8, 48);

    assert_memory_equal(buf, "xxxxxxxx", 8);
    assert_true(unit_zero(buf + 8, 48));
    assert_memory_equal(buf + 56, "xxxxxxxx", 8);

    bog_memory_wipe(buf, 0);

    assert_int_equal(buf[0], 'x');
}


static void
test_exclude(void **state)
{
    void  *p;

    (void) state;

    p = mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_ANONYMOUS,
             -1, 0);

    assert_true(p != MAP_FAILED);
    assert_false(unit_vm_flag(p, " dd"));

    assert_int_equal(bog_memory_exclude(p, 8192), 0);

    assert_true(unit_vm_flag(p, " dd"));

    unit_madvise_error = ENOMEM;

    assert_int_equal(bog_memory_exclude(p, 8192), -1);
    assert_int_equal(errno, ENOMEM);

    unit_madvise_error = 0;

    munmap(p, 8192);
}


/* pieces of all sizes are aligned, zeroed, apart and in no core dump */

static void
test_pool(void **state)
{
    char        *p, *last;
    size_t       i, n;
    bog_pool_t   pool = { NULL };

    static size_t  sizes[] = { 1, 15, 16, 17, 4096, 30000, 40000, 65536,
                               200000, 1, 65504, 3 };

    (void) state;

    last = NULL;

    for (n = 0; n < 3; n++) {

        for (i = 0; i < unit_count(sizes); i++) {
            p = __real_bog_pool_alloc(&pool, sizes[i]);

            assert_non_null(p);
            assert_int_equal((uintptr_t) p % 16, 0);
            assert_true(unit_zero(p, sizes[i]));
            assert_true(unit_vm_flag(p, " dd"));
            assert_true(unit_vm_flag(p + sizes[i] - 1, " dd"));

            memset(p, 0xa5, sizes[i]);

            assert_true(last == NULL || last[0] == (char) 0xa5);
            last = p + sizes[i] - 1;
        }

        unit_destroy(&pool);
        last = NULL;
    }
}


/* what is in a pool stays when there is no more memory */

static void
test_pool_refused(void **state)
{
    char        *p;
    bog_pool_t   pool = { NULL };

    (void) state;

    unit_madvise_error = EINVAL;

    assert_null(__real_bog_pool_alloc(&pool, 1));
    assert_int_equal(errno, EINVAL);
    assert_null(pool.chunks);

    unit_madvise_error = 0;

    p = __real_bog_pool_alloc(&pool, 1000);
    assert_non_null(p);
    memset(p, 0xa5, 1000);

    unit_madvise_error = EINVAL;

    assert_null(__real_bog_pool_alloc(&pool, 70000));
    assert_int_equal(errno, EINVAL);

    unit_madvise_error = 0;

    errno = 0;
    assert_null(__real_bog_pool_alloc(&pool, SIZE_MAX));
    assert_int_equal(errno, ENOMEM);

    errno = 0;
    assert_null(__real_bog_pool_alloc(&pool, SIZE_MAX / 2));
    assert_int_not_equal(errno, 0);

    assert_int_equal(p[0], (char) 0xa5);
    assert_int_equal(p[999], (char) 0xa5);

    unit_destroy(&pool);
}


int
unit_memory(void)
{
    const struct CMUnitTest  memory[] = {
        cmocka_unit_test(test_alloc),
        cmocka_unit_test(test_alloc_excluded),
        cmocka_unit_test(test_alloc_refused),
        cmocka_unit_test(test_alloc_too_large),
        cmocka_unit_test(test_release),
        cmocka_unit_test(test_wipe),
        cmocka_unit_test(test_exclude),
        cmocka_unit_test(test_pool),
        cmocka_unit_test(test_pool_refused)
    };

    return cmocka_run_group_tests(memory, NULL, NULL);
}
