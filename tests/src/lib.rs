//! The harness of the whole-system tests: builds the programs in `programs/`, runs them with and
//! without `sledge record`, and reads what was recorded.
//!
//! `SLEDGE_BIN` names the binary to test (else it is built); `SLEDGE_ONLY` runs only the cases
//! whose name contains it; with `SLEDGE_NO_SKIP` set, a case that cannot run is a failure.
#![forbid(unsafe_code)]

mod build;
mod checks;
mod live;
mod mount;
mod programs;
mod readers;
mod run;
mod sums;
mod trace;

pub use build::build;
pub use checks::{Checks, Trouble};
pub use live::{Live, Look, Watching, assert_restored, assert_untouched, control, hub, signal};
pub use mount::Mount;
pub use programs::{NOT_RUN_ALONE, PROGRAMS, Program, named};
pub use readers::{
    Call, Read, calls, calls_across_stacks, export, first_difference, node_modules, read,
    read_by_node,
};
pub use run::{
    End, Finished, Invocation, PATIENCE, Recording, compare, invoke, invoke_by, record, run,
    scratch, sledge, sledge_path, target_directory, tool,
};
pub use sums::{PathSum, edge_calls, path_sums};
pub use trace::{
    Ending, Event, Kind, Outline, Tally, assert_balanced, calls_by_function, dump, each_event,
    tally, traced,
};
