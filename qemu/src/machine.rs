//! A board on the bench: its card, how QEMU starts it, its logs.

use crate::board::Board;
use crate::disk;
use crate::kernel::{self, Kernel};
use crate::lock::Lock;
use crate::tool::{Result, target, text};
use crate::vm::Vm;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A board with its boot loader, ready to be switched on.
pub struct Bench {
    /// The board.
    pub board: Board,
    u_boot: PathBuf,
    dtb: Option<PathBuf>,
    patience: Duration,
    _lock: Lock,
}

impl Bench {
    /// Fetches and builds what is missing. An error if another process is at this board. Without any progress for `patience` a machine counts as hanging.
    pub fn new(board: Board, patience: Duration) -> Result<Bench> {
        let lock = Lock::take(&target().join("lock").join(&board.name), &board.name)?;
        kernel::fetch(&board)?;
        let u_boot = disk::u_boot(&board)?;
        let dtb = board.dtb.as_ref().map(|file| Kernel::open(&board)?.dtb(file)).transpose()?;
        Ok(Bench { board, u_boot, dtb, patience, _lock: lock })
    }

    /// Power on. With `writes` everything that the guest writes to the card is logged there.
    pub fn start(&self, card: &Path, writes: Option<&Path>, log: &Path) -> Result<Vm> {
        let args = self.command(card, writes)?;
        Vm::start(&args, log, self.patience)
    }

    /// QEMU's command for the card, without console.
    pub fn command(&self, card: &Path, writes: Option<&Path>) -> Result<Vec<String>> {
        let card_text = text(card);
        // unsafe: what reached the card is in the host's memory, and survives the end of QEMU. Flushes cost, and give
        // nothing as long as the host stays up.
        let drive = match writes {
            None => format!("format=raw,cache=unsafe,file={card_text}"),
            Some(log) => {
                let made = fs::File::create(log).map_err(|e| format!("{}: {e}", log.display()));
                made?;
                format!(
                    "driver=blklogwrites,cache=unsafe,file.driver=file,file.filename={card_text},\
                     log.driver=file,log.filename={}",
                    text(log)
                )
            }
        };
        let dtb = self.dtb.as_deref().map(text).unwrap_or_default();
        let fill = |word: &String| {
            let word = word.replace("{drive}", &drive).replace("{u-boot}", &text(&self.u_boot));
            word.replace("{dtb}", &dtb)
        };
        Ok(self.board.qemu.iter().map(fill).collect())
    }
}

/// Where a board's images are.
pub fn images(board: &Board) -> PathBuf {
    target().join("image").join(&board.name)
}
