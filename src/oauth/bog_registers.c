
/*
 * Copyright (C) The nginx-bog authors
 */


#include "bog_registers.h"


/* the caller of a function cannot expect to find any of these as it was */


#if defined __x86_64__ && defined __GNUC__


static void bog_registers_clear_avx512(void);
static void bog_registers_clear_avx(void);
static void bog_registers_clear_sse(void);


void
bog_registers_clear(void)
{
    if (__builtin_cpu_supports("avx512f")) {
        bog_registers_clear_avx512();

    } else if (__builtin_cpu_supports("avx")) {
        bog_registers_clear_avx();

    } else {
        bog_registers_clear_sse();
    }
}


__attribute__((noinline, target("avx512f")))
static void
bog_registers_clear_avx512(void)
{
    /* the first one is for all below the 16th */

    __asm__ volatile (
        "vzeroall\n\t"
        "vpxorq %%zmm16, %%zmm16, %%zmm16\n\t"
        "vpxorq %%zmm17, %%zmm17, %%zmm17\n\t"
        "vpxorq %%zmm18, %%zmm18, %%zmm18\n\t"
        "vpxorq %%zmm19, %%zmm19, %%zmm19\n\t"
        "vpxorq %%zmm20, %%zmm20, %%zmm20\n\t"
        "vpxorq %%zmm21, %%zmm21, %%zmm21\n\t"
        "vpxorq %%zmm22, %%zmm22, %%zmm22\n\t"
        "vpxorq %%zmm23, %%zmm23, %%zmm23\n\t"
        "vpxorq %%zmm24, %%zmm24, %%zmm24\n\t"
        "vpxorq %%zmm25, %%zmm25, %%zmm25\n\t"
        "vpxorq %%zmm26, %%zmm26, %%zmm26\n\t"
        "vpxorq %%zmm27, %%zmm27, %%zmm27\n\t"
        "vpxorq %%zmm28, %%zmm28, %%zmm28\n\t"
        "vpxorq %%zmm29, %%zmm29, %%zmm29\n\t"
        "vpxorq %%zmm30, %%zmm30, %%zmm30\n\t"
        "vpxorq %%zmm31, %%zmm31, %%zmm31\n\t"
        ::: "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
            "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
            "xmm15", "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21",
            "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", "xmm27", "xmm28",
            "xmm29", "xmm30", "xmm31");
}


__attribute__((noinline, target("avx")))
static void
bog_registers_clear_avx(void)
{
    __asm__ volatile ("vzeroall"
        ::: "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
            "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
            "xmm15");
}


static void
bog_registers_clear_sse(void)
{
    __asm__ volatile (
        "pxor %%xmm0, %%xmm0\n\t"
        "pxor %%xmm1, %%xmm1\n\t"
        "pxor %%xmm2, %%xmm2\n\t"
        "pxor %%xmm3, %%xmm3\n\t"
        "pxor %%xmm4, %%xmm4\n\t"
        "pxor %%xmm5, %%xmm5\n\t"
        "pxor %%xmm6, %%xmm6\n\t"
        "pxor %%xmm7, %%xmm7\n\t"
        "pxor %%xmm8, %%xmm8\n\t"
        "pxor %%xmm9, %%xmm9\n\t"
        "pxor %%xmm10, %%xmm10\n\t"
        "pxor %%xmm11, %%xmm11\n\t"
        "pxor %%xmm12, %%xmm12\n\t"
        "pxor %%xmm13, %%xmm13\n\t"
        "pxor %%xmm14, %%xmm14\n\t"
        "pxor %%xmm15, %%xmm15\n\t"
        ::: "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
            "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
            "xmm15");
}


#elif defined __aarch64__ && defined __GNUC__


void
bog_registers_clear(void)
{
    /* of the other eight, a function has to keep one half */

    __asm__ volatile (
        "movi v0.2d, #0\n\t"
        "movi v1.2d, #0\n\t"
        "movi v2.2d, #0\n\t"
        "movi v3.2d, #0\n\t"
        "movi v4.2d, #0\n\t"
        "movi v5.2d, #0\n\t"
        "movi v6.2d, #0\n\t"
        "movi v7.2d, #0\n\t"
        "movi v16.2d, #0\n\t"
        "movi v17.2d, #0\n\t"
        "movi v18.2d, #0\n\t"
        "movi v19.2d, #0\n\t"
        "movi v20.2d, #0\n\t"
        "movi v21.2d, #0\n\t"
        "movi v22.2d, #0\n\t"
        "movi v23.2d, #0\n\t"
        "movi v24.2d, #0\n\t"
        "movi v25.2d, #0\n\t"
        "movi v26.2d, #0\n\t"
        "movi v27.2d, #0\n\t"
        "movi v28.2d, #0\n\t"
        "movi v29.2d, #0\n\t"
        "movi v30.2d, #0\n\t"
        "movi v31.2d, #0\n\t"
        ::: "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v16", "v17",
            "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26",
            "v27", "v28", "v29", "v30", "v31");
}


#else


void
bog_registers_clear(void)
{
    /* void */
}


#endif
