//! Arguments in, exit code out: builds the real world and hands it to the driver.
fn main() {}
