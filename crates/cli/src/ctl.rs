//! `sledge ctl`: changes what is traced of a process while it is traced.

use std::io::{self, Write};

use sledge_hub::{Change, Client, HubError, Request};

use crate::arguments::{Ctl, CtlArgs};
use crate::failure::Failure;
use crate::running;

/// Asks the hub of the process, and shows what it answers.
pub(crate) fn run(args: &CtlArgs) -> anyhow::Result<()> {
    let control = |change| Request::Control(args.client, change);
    let request = match &args.what {
        Ctl::Filter { patterns } => control(Change::Filter(patterns.clone())),
        Ctl::Notrace { patterns } => control(Change::Notrace(patterns.clone())),
        Ctl::On => control(Change::Switch(true)),
        Ctl::Off => control(Change::Switch(false)),
        Ctl::Snapshot => control(Change::Snapshot),
        Ctl::Status => Request::Status,
        Ctl::Functions { pattern } => Request::Functions(pattern.clone()),
    };
    let answer = Client::connect(args.pid, "ctl").and_then(|mut client| client.ask(&request));
    let answer = answer.map_err(|error| match error {
        HubError::NotTraced(pid) => {
            Failure::new(error.to_string(), format!("begin with: sledge record -p {pid}"))
        }
        other => running::explain(&other),
    })?;
    if !answer.is_empty() {
        let end = if answer.ends_with('\n') { "" } else { "\n" };
        io::stdout().write_all(format!("{answer}{end}").as_bytes())?;
    }
    Ok(())
}
