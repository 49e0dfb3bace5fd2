/* Loaded and unloaded by dlopen.c. */
__attribute__((visibility("default"))) int plugin_calls;
__attribute__((constructor)) static void plugin_begin(void) { plugin_calls = 100; }
__attribute__((noipa)) int plugin_inner(int n) { return n * 3; }
__attribute__((noipa)) int plugin_run(int n, int (*back)(int)) { ++plugin_calls; return back(plugin_inner(n)) + 1; }
