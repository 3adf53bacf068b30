//! What runs inside the Job: claim, start, drain, stop, report.
//!
//! | module         | its one job                                                                 | pure |
//! |----------------|-----------------------------------------------------------------------------|------|
//! | [`config`]     | what the Job says to its runner, by the environment                         | yes  |
//! | [`tree`]       | that what is mounted is what the run pinned                                 | no   |
//! | [`client`]     | requests to the leader, over TLS with a pinned CA                           | no   |
//! | [`entrypoint`] | how an entrypoint is started                                                | yes  |
//! | [`needles`]    | the spellings of a secret                                                   | yes  |
//! | [`redact`]     | replaces secrets in a byte stream                                           | yes  |
//! | [`stream`]     | one output stream: drained, redacted, passed on, its end kept               | no   |
//! | [`process`]    | find, signal and reap the processes of a run                                | no   |
//! | [`control`]    | what the threads of a run tell each other                                   | no   |
//! | [`execute`]    | start, drain, stop: all of a run that needs no leader                       | no   |
//! | [`life`]       | the whole sequence, from claim to report                                    | no   |

pub mod client;
pub mod config;
pub mod control;
pub mod entrypoint;
pub mod execute;
pub mod life;
pub mod needles;
pub mod process;
pub mod redact;
pub mod stream;
pub mod tree;
