//! A symptom into its cause and remedy: a line of a kernel's log, an exception syndrome, an errno with the call that gave it, words.
//!
//! What is known is data, `symptoms.toml`: a case for each symptom, with its source and how far that was checked ([`Case`]). [`ask`]
//! finds the cases of one symptom, [`log::scan`] those of a whole log. What a machine ([`host::Host`]) has to say about a case is
//! judged by [`here::judge`]: a fact makes it likely, unlikely, or rules it out; a hole does neither.
//!
//! ```
//! let found = diagnose::ask("kvm [7]: Unsupported FSC: EC=0x24 xFSC=0x21 ESR_EL2=0x92000061");
//! assert_eq!(found[0].case.name, "stage2-alignment");
//! assert!(diagnose::ask("the printer is on fire").is_empty());
//! ```
#![forbid(unsafe_code)]

mod case;
mod errno;
pub mod here;
pub mod log;
mod pattern;
mod query;

pub use case::{BadTable, Call, Case, EsrIs, all, named, parse};
pub use errno::{ERRNOS, Errno};
pub use here::{Here, Judged, Kind, Note, Standing, Truth, When};
pub use pattern::{Captured, Pattern};
pub use query::{Found, How, Syndrome, ask, esr, filled, nearest};
