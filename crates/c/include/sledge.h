/* sledge: traces the functions of the running program. Real, unmodified code is patched live, under
 * its threads; a call costs what its own callbacks cost.
 *
 * Functions that can fail return -1 or NULL, and sledge_error() says why. All may be called from any
 * thread. A callback may call anything, and may block; it must not throw, nor jump away.
 *
 * Patterns are shell globs over readable names, with @module behind them if they mean one object:
 * "btree_*", "pthread_mutex_*@libc". Several stand on lines of their own. NULL or "" in a filter
 * means every function. */
#ifndef SLEDGE_H
#define SLEDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* All registers on entry. What a callback changes, the function starts with; rsp and rflags are only
 * to be read, and another rip is where the call goes on instead. */
typedef struct sledge_registers {
    uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, rip, rflags, rsp;
} sledge_registers;

/* What a function leaves behind; rax is what it returns, if that is an integer or a pointer. */
typedef struct sledge_results {
    uint64_t r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi;
} sledge_results;

/* Called on entry: the function, the address it returns to, the data that was registered, and all
 * registers if SLEDGE_SAVE_REGS asked for them, else NULL. */
typedef void (*sledge_callback)(uint64_t function, uint64_t parent, void *data, sledge_registers *registers);

/* The same for those who see the exit as well. What is left in the 16 bytes of scratch, the exit
 * finds there; it is seen if true is returned. */
typedef bool (*sledge_enter)(uint64_t function, uint64_t parent, void *data, sledge_registers *registers,
                             uint64_t *scratch);
typedef void (*sledge_leave)(uint64_t function, uint64_t parent, void *data, sledge_results *results,
                             uint64_t *scratch);

enum {
    /* All registers; functions that cannot give them are left out. */
    SLEDGE_SAVE_REGS = 1,
    /* All registers where they can be had. */
    SLEDGE_SAVE_REGS_IF_SUPPORTED = 2,
    /* Not called for what the callbacks of this thread call themselves. Without it, a callback must
     * not call what it traces. */
    SLEDGE_RECURSION = 4,
    /* While it is enabled, tracing cannot be switched off as a whole. */
    SLEDGE_PERMANENT = 8,
    /* Registered, but not begun: see sledge_set_enabled(). */
    SLEDGE_DISABLED = 16
};

/* What was registered. */
typedef struct sledge_ops sledge_ops;

/* Gets ready: reads the loaded objects, installs handlers for SIGTRAP and SIGILL, which pass on what
 * is the program's. The other functions do it, too. */
int sledge_open(void);

/* Registers a callback. */
sledge_ops *sledge_register(sledge_callback callback, void *data, unsigned flags, const char *filter);

/* Registers two, of which the second is called when the function returns. */
sledge_ops *sledge_register_call(sledge_enter enter, sledge_leave leave, void *data, unsigned flags,
                                 const char *filter);

/* Who calls one of these functions comes to the replacement instead, with the same arguments. Two
 * cannot have the same function. */
sledge_ops *sledge_replace(const void *replacement, const char *filter);

/* Code of one's own, called in place of a generated trampoline: all registers as on entry, [rsp] the
 * address where the function goes on, [rsp + 8] its return address. It is never written to, and must
 * stay for ever. */
sledge_ops *sledge_direct(const void *code, const char *filter);

/* Add to what is wanted, and to what is not, whatever is wanted; or replace it, with reset. */
int sledge_set_filter(sledge_ops *ops, const char *patterns, bool reset);
int sledge_set_notrace(sledge_ops *ops, const char *patterns, bool reset);

/* Begins or pauses. */
int sledge_set_enabled(sledge_ops *ops, bool enabled);

/* Only calls in these threads (their numbers, as of gettid); in all, with NULL. */
int sledge_set_threads(sledge_ops *ops, const int *threads, size_t count);

/* How many functions it has. */
size_t sledge_wanted(const sledge_ops *ops);

/* Ends it. When this returns, its callbacks do not run, and never run again. Also after a failure the
 * ops is not there any more. */
int sledge_unregister(sledge_ops *ops);

/* Looks for objects that were loaded or unloaded. */
int sledge_refresh(void);

/* Switches all tracing off, and on again. */
int sledge_switch(bool on);

/* Tells debuggers what generated code is called and how it is unwound, as of now. */
int sledge_tell_debuggers(void);

/* Where a function that was traced at some time runs without what is attached to it, or NULL. */
void *sledge_original(const void *function);

/* Texts, to be given back to sledge_free(). First ftrace's files of these names. */
char *sledge_available_filter_functions(void);
char *sledge_enabled_functions(void);
char *sledge_touched_functions(void);
/* Of dyn_ftrace_total_info: how many functions can be traced, in how many objects. */
char *sledge_totals(void);
/* The patterns of an ops that match nothing yet, a line each. */
char *sledge_pending(const sledge_ops *ops);
/* The functions that it asked for and does not get: "function [module]: why" on each line. */
char *sledge_left_out(const sledge_ops *ops);
/* Writes the names of generated code to /tmp/perf-PID.map, for perf; returns that path. */
char *sledge_write_perf_map(void);
void sledge_free(char *text);

/* Why the last function that failed in this thread did. Valid until the next one fails. */
const char *sledge_error(void);

#ifdef __cplusplus
}
#endif
#endif
