//! Running processes, traced live, by any number of clients at once.
//!
//! One hub serves a process: it enters it for its first client and leaves it after its last. A client
//! is a connection that asks ([`Request`]) and hears ([`Event`]):
//!
//! ```no_run
//! use sledge_hub::{Client, Event, Request, Wish, attached::Entry};
//! # fn watch(pid: i32, entry: &Entry) -> Result<(), sledge_hub::HubError> {
//! let mut client = Client::open(pid, entry, "my name")?; // or `Client::connect`: only if it is traced
//! let names = client.ask(&Request::Functions(String::new()))?; // NAME@MODULE, one a line
//! client.send(&Request::Select(Wish { functions: vec!["^http_".into()], ..Wish::default() }))?;
//! loop {
//!     match client.next(std::time::Duration::from_secs(1))? {
//!         Some(Event::Records { index, records }) => println!("thread {index}: {records:?}"),
//!         Some(Event::End { .. }) => return Ok(()),
//!         _ => {}
//!     }
//! }
//! # }
//! ```
//!
//! * [`Request::Select`] says which functions are wanted from now on; it may be sent again at any time,
//!   and is answered by [`Event::Selected`] with the time from which it holds.
//! * [`Event::Site`]s come before the records that name them, numbered in their order; so do
//!   [`Event::Object`]s and [`Event::Thread`]s. A record is `sledge_wire::record::Record`: entry or exit,
//!   time, site, and the stack cell that pairs them (`sledge_drain::Pairer` does). The caller is the
//!   innermost call that is open in the thread.
//! * A client gets exactly what it would if it were alone. One that reads nothing for two seconds while
//!   more than 8 MiB wait for it is let go.
//! * [`Request::Finish`] and then [`Event::End`] are the orderly end: when it comes to the last client,
//!   the process was left.
//! * Frames of unknown kinds end a connection; kinds for counters and probes have room behind the
//!   present ones.
//!
//! The program that starts hubs must serve [`HUB_COMMAND`] by calling [`serve`].
mod agent;
pub mod attached;
mod calls;
mod client;
mod error;
mod owner;
mod protocol;
mod record;
mod server;
mod view;

pub use client::{Client, HUB_COMMAND};
pub use error::HubError;
pub use protocol::{Change, Event, Request, Wish};
pub use record::{Recorded, Recording, record};
pub use server::serve;
