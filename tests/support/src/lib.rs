//! Test server, Artifact writer and simulated device: for tests and the demo, never shipped.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`artifact`] | writes Artifacts of any size without holding them |
//! | [`server`] | a Mender server's device API: checks what it gets, misbehaves on request |
//! | [`device`] | an A/B device in a directory, with a boot loader stand-in |
//! | [`scene`] | a server and a device together, with what a test asks of them |
//! | [`mod@budget`] | what the program is held to |
//! | [`cut`] | ends the agent before the n-th change that it makes to a file |
//! | [`tempdir`] | a directory that goes away with its test |
//! | [`tool`] | runs tools of the host; a missing one is named with its Debian package |
//! | [`trace`] | the system calls of a running process |
//! | [`watch`] | what the kernel tells about a running process |
//!
//! Everything here panics with a message instead of returning errors where a test could not go on anyway.

pub mod artifact;
mod base64;
pub mod budget;
// glibc's ptrace: what follows system calls runs on the machine that builds.
#[cfg(target_env = "gnu")]
pub mod cut;
pub mod device;
pub mod scene;
pub mod server;
pub mod tempdir;
pub mod tool;
pub mod trace;
pub mod watch;

pub use artifact::{ArtifactSpec, Content, SigningKey};
pub use budget::{budget, measured};
pub use device::{Device, DeviceOptions, Ending};
pub use scene::{Daemon, ID, Ran, Scene};
pub use server::{
    Act, Certificates, Deployment, Options, RangeFault, Request, Rule, Server, Tls, Traffic, What,
    make_certificates, make_certificates_from,
};
pub use tempdir::TempDir;
pub use trace::Trace;
pub use watch::Watch;
