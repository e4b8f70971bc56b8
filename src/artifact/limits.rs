//! How large each part of an Artifact may be (AF-65). Nothing here depends on what the Artifact claims.

/// The entry `version`.
pub(super) const VERSION: u64 = 1024;
/// The entry `manifest`.
pub(super) const MANIFEST: u64 = 1024 * 1024;
/// The entry `manifest.sig`.
pub(super) const SIGNATURE: u64 = 16 * 1024;
/// The entry `header.tar` or `header.tar.gz` as it is stored; it is kept in memory.
pub(super) const HEADER_STORED: u64 = 4 * 1024 * 1024;
/// The same, unpacked. It is never in memory as a whole.
pub(super) const HEADER_UNPACKED: u64 = 16 * 1024 * 1024;
/// `header.tar.xz` and `header.tar.zst` as they are stored: less, as a decoder's window is in memory too.
pub(super) const HEADER_STORED_WINDOW: u64 = 2 * 1024 * 1024;
/// The same, unpacked: the window can grow to this size. Windows grow in powers of two: a little below 8 MiB they
/// stay at 8 MiB.
pub(super) const HEADER_UNPACKED_WINDOW: u64 = 8 * 1024 * 1024 - 64 * 1024;
/// `header-info`.
pub(super) const HEADER_INFO: u64 = 64 * 1024;
/// `files`, in version 2.
pub(super) const FILES: u64 = 4 * 1024;
/// `type-info`.
pub(super) const TYPE_INFO: u64 = 64 * 1024;
/// `meta-data`.
pub(super) const META_DATA: u64 = 1024 * 1024;
/// JSON values in the members of one header, together. In memory a value can take a hundred times its text: this
/// is what keeps 1 MiB of meta-data from becoming 100 MiB.
pub(super) const JSON_VALUES: usize = 8192;
/// State scripts in one Artifact.
pub(super) const SCRIPTS: usize = 256;
/// A tar entry's name, and a payload file's name, in bytes.
pub(super) const NAME: usize = 255;
/// A PAX or GNU long-name record. The writers' own are below 1 KiB.
pub(super) const EXTENSION: u64 = 16 * 1024;
/// Bytes after the end blocks: of the data container (unprotected, ignored) and of the outer archive (all zero).
/// Padding of real tar writers is far below.
pub(super) const AFTER_END: u64 = 1024 * 1024;
