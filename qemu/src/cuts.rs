//! Power cuts at the block layer: one update is recorded, write by write; then cards are made as they are after any
//! number of writes, and looked at, or booted.

use crate::board::{Board, Part};
use crate::card::{Card, Environment};
use crate::disk;
use crate::machine::Bench;
use crate::play::{Play, Taken, log_of};
use crate::release::Releases;
use crate::scenario::{RECORDED, RESUMED};
use crate::tool::{Result, read, target, write};
use crate::writes::{Cut, Write, Writes};
use std::ops::Range;
use std::path::PathBuf;

/// Where the copies of the environment are on the card. For a file that is the whole boot partition.
pub fn environment_ranges(board: &Board) -> Result<Vec<Range<u64>>> {
    let mut ranges = Vec::new();
    for area in &board.env {
        let start = disk::raw_offset(board, area)?;
        let boot = board.parts[0];
        ranges
            .push(start.map_or(boot.start..boot.start + boot.size, |start| start..start + area.size as u64));
    }
    Ok(ranges)
}

/// What looking at many cards gave.
#[derive(Debug, Default)]
pub struct Looked {
    /// Cuts that left everything as it should be.
    pub good: Vec<usize>,
    /// Cuts inside the write of the only copy of an environment.
    pub exempt: usize,
    /// What is wrong.
    pub wrong: Vec<String>,
}

/// A recorded update.
pub struct Recording<'a> {
    bench: &'a Bench,
    releases: &'a Releases,
    dir: PathBuf,
    writes: Writes,
    port: u16,
    /// Every place where the power may go, in order.
    cuts: Vec<Cut>,
}

impl<'a> Recording<'a> {
    /// Records an update, or takes the last recording if `again`.
    pub fn new(bench: &'a Bench, releases: &'a Releases, again: bool) -> Result<Recording<'a>> {
        let dir = target().join("cuts").join(&bench.board.name);
        let port = dir.join("port");
        if !again || !port.exists() {
            let play = Play::new(bench, releases, &RECORDED, &dir, log_of(bench, RECORDED.name))?;
            let number = play.port();
            play.run()?;
            // Last: with it the recording is complete.
            write(&port, number.to_string())?;
        }
        let port = read(&port)?.trim().parse().map_err(|e| format!("{}: {e}", port.display()))?;
        let writes = Writes::open(&dir.join("writes.log"))?;
        let cuts = writes.cuts();
        Ok(Recording { bench, releases, dir, writes, port, cuts })
    }

    /// What was recorded, in a line.
    pub fn about(&self) -> String {
        let bytes: u64 = self.writes.list.iter().map(|write| write.size).sum();
        format!(
            "{} writes, {} KiB, {} places for a cut",
            self.writes.list.len(),
            bytes >> 10,
            self.cuts.len()
        )
    }

    /// About `count` cuts: all that touch the environment, the others in even steps.
    pub fn sample(&self, count: usize) -> Result<Vec<usize>> {
        let ranges = environment_ranges(&self.bench.board)?;
        let touches = |write: &Write| {
            ranges.iter().any(|range| write.offset < range.end && range.start < write.offset + write.size)
        };
        let near = |number: &usize| self.writes.list.get(self.cuts[*number].whole).is_some_and(touches);
        let every = (self.cuts.len() / count.max(1)).max(1);
        Ok((0..self.cuts.len()).filter(|number| number % every == 0 || near(number)).collect())
    }

    /// Looks at the cards after these cuts, in ascending order: environment, chosen slot, journal.
    pub fn look(&self, numbers: &[usize]) -> Result<Looked> {
        let card = self.dir.join("looked.img");
        disk::copy(&self.dir.join("before.img"), &card)?;
        let sums = [self.releases.sum("release-1")?, self.releases.sum("release-2")?];
        let mut looked = Looked::default();
        let mut seen = Seen::default();
        let mut done = 0;
        for number in numbers {
            let cut = *self.cuts.get(*number).ok_or_else(|| format!("there is no cut {number}"))?;
            self.writes.add(&card, done, cut)?;
            seen.forget(&self.bench.board, self.writes.list.iter().take(cut.whole + 1).skip(done));
            // A torn write is written again in full with the next cut.
            done = cut.whole;
            let card = Card::new(&self.bench.board, &card);
            let single = !self.bench.board.redundant();
            match card.environment() {
                Err(_) if single => looked.exempt += 1,
                Err(error) => looked.wrong.push(format!("cut {number} {cut:?}: {error}")),
                Ok(env) => match intact(&card, &env, &sums, &mut seen) {
                    Ok(()) => looked.good.push(*number),
                    Err(error) => looked.wrong.push(format!("cut {number} {cut:?}: {error}; {env:?}")),
                },
            }
        }
        Ok(looked)
    }

    /// Boots the card after this cut; it must end with the old or the new system, and the right report.
    pub fn boot(&self, number: usize, log: PathBuf) -> Result<Taken> {
        let cut = *self
            .cuts
            .get(number)
            .ok_or_else(|| format!("there is no cut {number} of {}", self.cuts.len()))?;
        let work = self.dir.join("booted");
        crate::tool::fresh(&work)?;
        self.writes.apply(&self.dir.join("before.img"), &work.join("card.img"), cut)?;
        let _ = std::fs::remove_file(&log);
        Play::found(self.bench, self.releases, &RESUMED, &work, log, self.port).run()
    }

    /// Some of these, in even steps, the first and the last among them.
    pub fn some(numbers: &[usize], count: usize) -> Vec<usize> {
        let last = numbers.len().saturating_sub(1);
        let steps = count.saturating_sub(1).max(1);
        let mut some: Vec<usize> =
            (0..count).filter_map(|n| numbers.get(last * n / steps).copied()).collect();
        some.dedup();
        some
    }
}

/// What was found on the card before, and still holds because nothing was written there since.
#[derive(Default)]
struct Seen {
    slots: [Option<String>; 2],
    journal: bool,
}

impl Seen {
    fn forget<'a>(&mut self, board: &Board, written: impl Iterator<Item = &'a Write>) {
        for write in written {
            let touches =
                |part: &Part| write.offset < part.start + part.size && part.start < write.offset + write.size;
            for (slot, part) in self.slots.iter_mut().zip(&board.parts[1..3]) {
                if touches(part) {
                    *slot = None;
                }
            }
            self.journal &= !touches(&board.parts[3]);
        }
    }
}

fn intact(card: &Card, env: &Environment, sums: &[String; 2], seen: &mut Seen) -> Result<()> {
    let which = match env.part {
        2 => 0,
        3 => 1,
        other => return Err(format!("the environment chooses p{other}")),
    };
    let found = match seen.slots[which].take() {
        Some(sum) => sum,
        None => card.slot(env.part)?,
    };
    let good = found == sums[which];
    seen.slots[which] = Some(found);
    if !good {
        return Err(format!("the environment chooses p{}, which is neither old nor new", env.part));
    }
    if !seen.journal {
        card.journal()?;
        seen.journal = true;
    }
    Ok(())
}
