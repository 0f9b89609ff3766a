/* The most 8-bit multiplications and additions that one core does a second: vpdpbusd on twelve independent registers.
   Prints giga-operations a second, the best of twenty tries. */
#include <immintrin.h>
#include <stdio.h>
#include <time.h>

#define REGISTERS 12
#define OPERATIONS 128.0 /* of one vpdpbusd on 512 bits: 64 multiplications and as many additions */

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

int main(void) {
    const long rounds = 4000000;
    double best = 0;
    for (int attempt = 0; attempt < 20; attempt++) {
        __m512i sums[REGISTERS], bytes = _mm512_set1_epi8(1), weights = _mm512_set1_epi8(2);
        for (int i = 0; i < REGISTERS; i++) sums[i] = _mm512_setzero_si512();
        double began = now();
        for (long round = 0; round < rounds; round++) {
#pragma GCC unroll 12
            for (int i = 0; i < REGISTERS; i++)
                __asm__ volatile("vpdpbusd %1,%2,%0" : "+v"(sums[i]) : "v"(bytes), "v"(weights));
        }
        double giga = OPERATIONS * REGISTERS * rounds / (now() - began) / 1e9;
        volatile int used = 0;
        for (int i = 0; i < REGISTERS; i++) used += _mm512_reduce_add_epi32(sums[i]);
        if (giga > best) best = giga;
    }
    printf("%.1f\n", best);
    return 0;
}
