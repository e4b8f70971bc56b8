//! What U-Boot with Mender's integration does from power-on to the start of a kernel.

use super::env::{Environment, Variables};

/// Resets in a row after which the device counts as dead. A real one would go on for ever.
const PATIENCE: usize = 8;

/// Variables that the boot loader saves.
type Changes = Vec<(&'static str, String)>;

/// The slot that comes up, or why none does. `starts` tells whether a slot's kernel starts.
pub(super) fn power_on(
    environment: &Environment,
    slots: [u32; 2],
    starts: impl Fn(u32) -> bool,
) -> Result<u32, String> {
    for _ in 0..PATIENCE {
        let variables = environment.read().ok_or("no copy of the boot environment is valid")?;
        let (slot, changes) = decide(&variables, slots)?;
        if !changes.is_empty() {
            environment.change(&changes);
        }
        if starts(slot) {
            return Ok(slot);
        }
        // `mender_try_to_recover` resets only while an update is being tried.
        let still_trying =
            environment.read().is_some_and(|variables| number(&variables, "upgrade_available") != 0);
        if !still_trying {
            return Err(format!("slot {slot} does not start, and no update is being tried"));
        }
    }
    Err(format!("no slot started in {PATIENCE} attempts"))
}

/// One pass: which slot to boot, and what is saved first.
fn decide(variables: &Variables, slots: [u32; 2]) -> Result<(u32, Changes), String> {
    let slot = number(variables, "mender_boot_part");
    if !slots.contains(&slot) {
        let value = variables.get("mender_boot_part");
        return Err(format!("mender_boot_part is {value:?}, which is no slot"));
    }
    // The boot count works only while an update is being tried.
    if number(variables, "upgrade_available") == 0 {
        return Ok((slot, Vec::new()));
    }
    let count = number(variables, "bootcount") + 1;
    let mut changes = vec![("bootcount", count.to_string())];
    let limit = number(variables, "bootlimit");
    if limit == 0 || count <= limit {
        return Ok((slot, changes));
    }
    // altbootcmd: back to the other slot for good. The count stays as it is.
    let other = if slot == slots[0] { slots[1] } else { slots[0] };
    changes.extend([
        ("mender_boot_part", other.to_string()),
        ("mender_boot_part_hex", format!("{other:x}")),
        ("upgrade_available", "0".to_owned()),
    ]);
    Ok((other, changes))
}

/// As U-Boot reads numbers: what is missing or none is 0.
fn number(variables: &Variables, name: &str) -> u32 {
    variables.get(name).and_then(|value| value.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TempDir;

    /// Boots once; returns the result and the variables part, upgrade_available, bootcount afterwards.
    fn boot(
        part: &str,
        trying: &str,
        count: &str,
        limit: &str,
        broken: &[u32],
    ) -> (Result<u32, String>, [String; 3]) {
        let dir = TempDir::new("boot");
        let variables: Variables = [
            ("mender_boot_part", part),
            ("upgrade_available", trying),
            ("bootcount", count),
            ("bootlimit", limit),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let environment = Environment::create(&dir.path().join("env"), true, &variables);
        let slot = power_on(&environment, [2, 3], |slot| !broken.contains(&slot));
        let after = environment.read().unwrap();
        (slot, ["mender_boot_part", "upgrade_available", "bootcount"].map(|name| after[name].clone()))
    }

    #[test]
    fn every_way_to_boot() {
        // part, trying, count, limit, broken slots → slot, then part, trying, count
        type Row =
            (&'static str, &'static str, &'static str, &'static str, &'static [u32], u32, [&'static str; 3]);
        let table: [Row; 9] = [
            ("2", "0", "0", "1", &[], 2, ["2", "0", "0"]),
            ("3", "0", "5", "1", &[], 3, ["3", "0", "5"]),
            ("3", "1", "0", "1", &[], 3, ["3", "1", "1"]),
            ("3", "1", "1", "1", &[], 2, ["2", "0", "2"]),
            ("2", "1", "1", "1", &[], 3, ["3", "0", "2"]),
            ("3", "1", "0", "1", &[3], 2, ["2", "0", "2"]),
            ("3", "1", "1", "2", &[], 3, ["3", "1", "2"]),
            ("3", "1", "9", "0", &[], 3, ["3", "1", "10"]),
            ("3", "1", "", "1", &[], 3, ["3", "1", "1"]),
        ];
        for (part, trying, count, limit, broken, slot, after) in table {
            let case = (part, trying, count, limit, broken);
            assert_eq!(
                boot(part, trying, count, limit, broken),
                (Ok(slot), after.map(str::to_owned)),
                "{case:?}"
            );
        }
    }

    #[test]
    fn a_device_that_cannot_start_says_why() {
        assert!(boot("2", "0", "0", "1", &[2]).0.unwrap_err().contains("does not start"));
        assert!(boot("3", "1", "0", "1", &[2, 3]).0.unwrap_err().contains("does not start"));
        assert!(boot("7", "0", "0", "1", &[]).0.unwrap_err().contains("no slot"));
    }
}
