//! Somebody else's image on a board of ours: it comes up, it comes up again after a power cut, and it takes an Artifact
//! from the test server.

use crate::disk;
use crate::machine::Bench;
use crate::play::Taken;
use crate::tool::{Result, fresh, read, target};
use std::path::{Path, PathBuf};
use thimble_testkit::{Deployment, Options, Server, What};

/// What the integrator says of his image.
pub struct Own {
    /// The card: boot loader, partitions, everything.
    pub card: PathBuf,
    /// A text on the console by which it is up.
    pub marker: String,
    /// An Artifact that it is to install, and the port at which it looks for its server on 10.0.2.2.
    pub update: Option<(PathBuf, u16)>,
    /// The device type in the offer.
    pub device_type: String,
}

const ID: &str = "00000000-0000-4000-8000-000000000001";

/// Plays it on a copy; what happened.
pub fn run(bench: &Bench, own: &Own, log: &Path) -> Result<(String, Taken)> {
    let taken = |cpu| {
        let console = read(log).unwrap_or_default();
        Taken { boots: console.matches("\nU-Boot ").count() + console.matches("] U-Boot ").count(), cpu }
    };
    let work = target().join("own").join(&bench.board.name);
    fresh(&work)?;
    let card = work.join("card.img");
    disk::copy(&own.card, &card)?;
    let server = own.update.as_ref().map(|(_, port)| {
        Server::start(Options { host: "10.0.2.2".to_owned(), port: *port, ..Options::default() })
    });
    let mut vm = bench.start(&card, None, log)?;
    vm.wait_for_text(&own.marker)?;
    let cpu = vm.cut();
    let mut vm = bench.start(&card, None, log)?;
    vm.wait_for_text(&own.marker)?;
    let (Some(server), Some((artifact, _))) = (server, &own.update) else {
        return Ok(("came up, and again after a power cut".to_owned(), taken(cpu + vm.cut())));
    };
    let name = artifact.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    server.deploy(Deployment {
        id: ID.to_owned(),
        artifact: artifact.clone(),
        artifact_name: name,
        device_types: vec![own.device_type.clone()],
    });
    vm.wait_until("the final report at the server", |_, progress| {
        progress.note(server.requests_of(What::Artifact).iter().map(|request| request.sent).sum());
        let heard = server.statuses(ID);
        heard
            .iter()
            .any(|s| ["success", "failure", "already-installed"].contains(&s.as_str()))
            .then_some((0, ()))
    })?;
    let mut statuses = server.statuses(ID);
    statuses.dedup();
    let told = statuses.join(", ");
    match statuses.last().map(String::as_str) {
        Some("success") => Ok((told, taken(cpu + vm.cut()))),
        _ => Err(format!("{told}; the deployment's log:\n{}", server.logs(ID).join("\n"))),
    }
}
