/* Shared by the traced programs. */
#pragma once
#include <stdio.h>
#include <stdlib.h>

/* A function that stays a function of its own: no inlining, cloning or guessing across its calls. */
#ifdef __clang__
#define KEEP __attribute__((noinline))
#else
#define KEEP __attribute__((noipa))
#endif

/* A wrong result is told and ends the program with status 1. */
#define CHECK(condition)                                                    \
    do {                                                                    \
        if (!(condition)) {                                                 \
            fprintf(stderr, "line %d: wrong: %s\n", __LINE__, #condition);  \
            exit(1);                                                        \
        }                                                                   \
    } while (0)
