//! Where the world ends: a value that can be printed and replayed.

/// How much of a torn write arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tear {
    /// Its first byte.
    First,
    /// The first half.
    Half,
    /// All but the last byte.
    Last,
}

impl Tear {
    /// How many of so many bytes arrive.
    pub fn of(self, length: usize) -> usize {
        match self {
            Tear::First => 1.min(length),
            Tear::Half => length / 2,
            Tear::Last => length.saturating_sub(1),
        }
    }
}

/// When, relative to an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Before,
    Torn(Tear),
    /// It is done, but nobody hears of it.
    After,
}

/// What ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// The power of the machine.
    Power,
    /// The agent only: it is killed and started again in the same boot.
    Agent,
}

/// One cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// The operation, counted from the beginning over all boots.
    pub op: usize,
    pub how: How,
    pub ends: Ends,
}

/// What an operation can look like when it is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tears {
    /// Not begun or done.
    Never,
    /// Also half done, in one way.
    Half,
    /// Bytes on a storage: any number of them.
    Bytes,
}

impl Tears {
    /// Every way to cut such an operation but after it, which is before the next one: nothing else lasts.
    pub fn hows(self) -> Vec<How> {
        let torn: &[Tear] = match self {
            Tears::Never => &[],
            Tears::Half => &[Tear::Half],
            Tears::Bytes => &[Tear::First, Tear::Half, Tear::Last],
        };
        let mut all = vec![How::Before];
        all.extend(torn.iter().map(|t| How::Torn(*t)));
        all
    }
}

/// Numbers without a clock behind them (an LCG; the constants are Knuth's).
pub struct Numbers(pub u64);

impl Numbers {
    /// Below `limit`, which is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}
