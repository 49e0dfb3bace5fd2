//! The traced programs themselves are right: untraced, each does what its table row says.
#![forbid(unsafe_code)]

use sledge_tests::{Checks, Invocation, NOT_RUN_ALONE, PROGRAMS, Trouble, build, invoke};

#[test]
fn programs_work_untraced() {
    let mut checks = Checks::new("programs untraced");
    for program in PROGRAMS {
        checks.case(program.name, || {
            let invocation = Invocation::of(program)?;
            let (first, second) = (invoke(&invocation)?, invoke(&invocation)?);
            if first.end != program.end {
                return Err(format!("{:?}: {}", first.end, first.errors()).into());
            }
            if first.stdout != second.stdout || first.stderr != second.stderr {
                return Err("two runs differ".into());
            }
            Ok::<(), Trouble>(())
        });
    }
    for program in NOT_RUN_ALONE {
        checks.case(program.name, || build(program).map(drop));
    }
    checks.finish();
}
