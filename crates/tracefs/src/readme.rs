//! `README`: what the tree has. Tools look for features in it, so its phrases are the kernel's.

/// The file's text.
pub(crate) const README: &str = "\
tracing mini-HOWTO for the functions of a process:

# echo 0 > tracing_on : quick way to disable tracing
# echo 1 > tracing_on : quick way to re-enable tracing

 Important files:
  trace\t\t\t- The static contents of the buffer
\t\t\t  To clear the buffer write into this file: echo > trace
  trace_pipe\t\t- A consuming read to see the contents of the buffer
  current_tracer\t- function and latency tracers
  available_tracers\t- list of configured tracers for current_tracer
  error_log\t\t- error log for failed commands (that support it)
  buffer_size_kb\t- view and modify size of the buffer of each lane
  buffer_total_size_kb  - view total size of all lanes
  trace_clock\t\t- change the clock used to order events
  trace_marker\t\t- Writes into this file writes into the buffer
  tracing_cpumask\t- Limit which lanes to trace (a lane is a thread, not a CPU)
  instances\t\t- Make sub-buffers with: mkdir instances/foo
\t\t\t  Remove sub-buffer with rmdir
  trace_options\t\t- Set format or modify how tracing happens
\t\t\t  Disable an option by prefixing 'no' to the option name

  available_filter_functions - list of functions that can be filtered on
  set_ftrace_filter\t- echo function name in here to only trace these functions
\t     accepts: func_full_name or glob-matching-pattern
\t     modules: Can select a group via module: the file name of a library
\t      Format: :mod:<module-name>
\t    triggers: a command to perform when function is hit
\t      Format: <function>:<trigger>[:count]
\t     trigger: traceon, traceoff, stacktrace, snapshot,
\t              enable_event:<system>:<event>, disable_event:<system>:<event>
\t     To remove a trigger without count: echo '!<function>:<trigger>' > set_ftrace_filter
\t     To remove a trigger with a count: echo '!<function>:<trigger>:0' > set_ftrace_filter
  set_ftrace_notrace\t- echo function name in here to never trace
  set_ftrace_pid\t- Write thread id(s) to only trace those
  set_ftrace_notrace_pid\t- Write thread id(s) to not trace those
  set_graph_function\t- Trace the nested calls of a function (function_graph)
  set_graph_notrace\t- Do not trace the nested calls of a function (function_graph)
  max_graph_depth\t- Trace a limited depth of nested calls (0 is unlimited)
  dynamic_events\t\t- Create/append/remove/show the dynamic events
\t\t\t  Write into this file to define/undefine new trace events.
  kprobe_events\t\t- Create/append/remove/show those that are p or r
\t  accepts: event-definitions (one definition per line)
\t   Format: p[:[<group>/][<event>]] <place> [<args>]
\t           r[maxactive][:[<group>/][<event>]] <place> [<args>]
\t           f[:[<group>/][<event>]] <func-name>[%return] [<args>]
\t           -:[<group>/][<event>]
\t    place: [<module>:]<symbol>[+<offset>]|<memaddr>
place (kretprobe): [<module>:]<symbol>[+<offset>]%return|<memaddr>
\t     args: <name>=fetcharg[:type]
\t fetcharg: %<register>, @<address>, @<symbol>[+|-<offset>],
\t           $stack<index>, $stack, $retval, $comm, $arg<N>,
\t           +|-[u]<offset>(<fetcharg>), \\imm-value, \\\"imm-string\"
\t     type: s8/16/32/64, u8/16/32/64, x8/16/32/64, char, string, symbol,
\t           b<bit-width>@<bit-offset>/<container-size>, ustring,
\t           <type>\\[<array-size>\\]
  events/\t\t- Directory containing all trace event subsystems:
      enable\t\t- Write 0/1 to enable/disable tracing of all events
  events/<system>/<event>/\t- Directory containing control files for <event>:
      enable, filter, format, id, trigger, hist
\t    trigger: traceon, traceoff, snapshot, stacktrace, enable_event:<system>:<event>,
\t             disable_event:<system>:<event>, hist:keys=<field>[,<field>][:vals=..][:sort=..][:size=..]
  snapshot\t\t- Like 'trace' but shows the content of the static snapshot buffer
";
