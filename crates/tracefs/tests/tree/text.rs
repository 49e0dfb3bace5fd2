//! Text as tools for the kernel's tracefs parse it.

use crate::support::Lab;

#[test]
fn the_function_tracer_s_text_is_the_kernel_s() {
    let mut lab = Lab::new();
    lab.echo("function", "current_tracer").unwrap();
    lab.call(0, 0, 100, |lab| lab.call(0, 1, 50, |_| {}));
    lab.call(1, 3, 100, |_| {});
    let expected = "\
# tracer: function
#
# entries-in-buffer/entries-written: 3/3   #P:2
#
#                                _-----=> irqs-off/BH-disabled
#                               / _----=> need-resched
#                              | / _---=> hardirq/softirq
#                              || / _--=> preempt-depth
#                              ||| / _-=> migrate-disable
#                              |||| /     delay
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
#              | |         |   |||||     |         |
            main-100     [000] .....     1.000000: main <-main
            main-100     [000] .....     1.000000: mutex_lock <-main
##### CPU 1 buffer started ####
          worker-101     [001] .....     1.000000: schedule <-main
";
    assert_eq!(lab.cat("trace"), expected);
}

#[test]
fn the_graph_tracer_s_text_is_the_kernel_s() {
    let mut lab = Lab::new();
    lab.echo("function_graph", "current_tracer").unwrap();
    lab.call(0, 0, 100, |lab| {
        lab.call(0, 1, 12_000, |_| {});
        lab.echo("hello", "trace_marker").unwrap();
    });
    let expected = "\
# tracer: function_graph
#
# CPU  DURATION                  FUNCTION CALLS
# |     |   |                     |   |   |   |
 0)               |  main() {
 0) + 12.000 us   |    mutex_lock();
 ------------------------------------------
 0)    main-100    =>      sh-7     
 ------------------------------------------

 0)               |  /* hello */
 ------------------------------------------
 0)      sh-7      =>    main-100   
 ------------------------------------------

 0) + 12.110 us   |  }
";
    assert_eq!(lab.cat("trace"), expected);
}

#[test]
fn a_pipe_tells_what_was_lost_and_consumes() {
    let mut lab = Lab::new();
    lab.echo("1", "buffer_size_kb").unwrap();
    lab.echo("function", "current_tracer").unwrap();
    (0..100).for_each(|_| lab.call(0, 3, 1, |_| {}));
    let text = lab.cat("trace_pipe");
    assert!(text.starts_with("CPU:0 [LOST 64 EVENTS]\n"), "{text}");
    assert_eq!(text.lines().count(), 37);
    assert_eq!(lab.cat("trace_pipe"), "");
    let stats = lab.cat("per_cpu/cpu0/stats");
    assert!(stats.contains("entries: 0\noverrun: 64\n") && stats.contains("read events: 36\n"));
}

#[test]
fn snapshots_keep_what_was_there() {
    let mut lab = Lab::new();
    assert!(lab.cat("snapshot").contains("# * Snapshot is freed *\n"));
    lab.echo("1", "snapshot").unwrap();
    assert!(lab.cat("snapshot").contains("# * Snapshot is allocated *\n"));
    lab.echo("function", "current_tracer").unwrap();
    lab.call(0, 3, 1, |_| {});
    lab.echo("1", "snapshot").unwrap();
    lab.call(0, 4, 1, |_| {});
    assert!(
        lab.cat("snapshot").contains("schedule <-main")
            && !lab.cat("trace").contains("schedule <-")
    );
    lab.echo("0", "snapshot").unwrap();
    assert!(lab.cat("snapshot").contains("# * Snapshot is freed *\n"));
}
