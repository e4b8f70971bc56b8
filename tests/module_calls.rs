//! Single calls of Update Modules: where they are found, what they are given, how their answers, output and ends are
//! judged. Modules are shell scripts.
#![allow(clippy::expect_used, clippy::panic)]

#[path = "data/module_bench.rs"]
mod bench;

use bench::{Bench, Fake, alive, lines};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};
use thimble::agent::Reboot;
use thimble::install::module::Module;
use thimble::ports::Payload;

#[test]
fn every_method_is_one_call_of_that_name() {
    let bench = Bench::new("echo $1 >> calls");
    let mut module = bench.prepared();
    module.install().expect("installs");
    module.reboot().expect("reboots");
    module.verify_reboot().expect("verifies");
    module.commit().expect("commits");
    module.rollback().expect("rolls back");
    module.rollback_reboot().expect("reboots back");
    module.verify_rollback_reboot().expect("verifies that");
    module.failure().expect("fails");
    let _ = module.needs_reboot().expect("answers");
    let _ = module.supports_rollback().expect("answers");
    assert_eq!(
        lines(&bench.in_tree("calls")),
        [
            "ArtifactInstall",
            "ArtifactReboot",
            "ArtifactVerifyReboot",
            "ArtifactCommit",
            "ArtifactRollback",
            "ArtifactRollbackReboot",
            "ArtifactVerifyRollbackReboot",
            "ArtifactFailure",
            "NeedsArtifactReboot",
            "SupportsRollback",
        ]
    );
}

#[test]
fn a_call_has_two_arguments_an_empty_input_the_tree_as_working_directory_and_a_group_of_its_own() {
    let bench = Bench::new(
        r#"
        echo "$# $1 $2" > told
        pwd > where
        cat > input
        cut -d ' ' -f 5 /proc/$$/stat > group; echo $$ > pid
        "#,
    );
    bench.prepared().install().expect("installs");
    let tree = bench.tree().display().to_string();
    assert!(tree.starts_with('/'));
    assert_eq!(lines(&bench.in_tree("told")), [format!("2 ArtifactInstall {tree}")]);
    assert_eq!(lines(&bench.in_tree("where")), [tree]);
    assert_eq!(fs::read(bench.in_tree("input")).expect("there"), b"");
    assert_eq!(lines(&bench.in_tree("group")), lines(&bench.in_tree("pid")));
}

#[test]
fn the_environment_is_handed_on_unchanged() {
    let bench = Bench::new("env | grep -v -e '^_=' -e '^PWD=' -e '^OLDPWD=' -e '^SHLVL=' | sort > env");
    bench.prepared().install().expect("installs");
    let shell = ["_", "PWD", "OLDPWD", "SHLVL"];
    let mut ours: Vec<String> = std::env::vars()
        .filter(|(name, value)| !shell.contains(&name.as_str()) && !value.contains('\n'))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    ours.sort();
    let mut theirs = lines(&bench.in_tree("env"));
    theirs.sort();
    assert_eq!(theirs, ours);
}

#[test]
fn an_answer_is_compared_exactly_after_one_end_of_line() {
    let bench =
        Bench::new(r#"[ $1 = NeedsArtifactReboot ] || [ $1 = SupportsRollback ] || exit 9; cat answer"#);
    let mut module = bench.prepared();
    let mut ask = |answer: &str| {
        fs::write(bench.in_tree("answer"), answer).expect("writes");
        (module.needs_reboot().map_err(|e| e.code), module.supports_rollback().map_err(|e| e.code))
    };
    let wrong = "MODULE-ANSWER";
    assert_eq!(ask(""), (Ok(Reboot::No), Ok(false)));
    assert_eq!(ask("\n"), (Ok(Reboot::No), Ok(false)));
    assert_eq!(ask("Yes"), (Ok(Reboot::Yes), Ok(true)));
    assert_eq!(ask("Yes\n"), (Ok(Reboot::Yes), Ok(true)));
    assert_eq!(ask("No\n"), (Ok(Reboot::No), Ok(false)));
    assert_eq!(ask("Automatic\n"), (Ok(Reboot::Automatic), Err(wrong)));
    for bad in
        ["yes", "Yes ", " Yes", "Yes\n\n", "Yes\nfoo", "\n\n", "Maybe", "Yes\r\n", "Automatic please\n", "\0"]
    {
        assert_eq!(ask(bad), (Err(wrong), Err(wrong)), "{bad:?}");
    }
    assert_eq!(ask(&"Yes\n".repeat(1025)), (Err(wrong), Err(wrong)));
    assert_eq!(ask(&"x".repeat(1 << 20)), (Err(wrong), Err(wrong)));
}

#[test]
fn the_error_about_an_answer_says_what_was_found_and_what_is_possible() {
    let bench = Bench::new("echo Maybe");
    let error = bench.prepared().needs_reboot().expect_err("no answer");
    for part in ["NeedsArtifactReboot", "Yes, No, Automatic", "Maybe", "modules/v3/test"] {
        assert!(error.text.contains(part), "{part}: {error}");
    }
}

#[test]
fn an_answer_may_come_in_pieces() {
    let bench = Bench::new("printf Ye; sleep 0.2; echo s");
    assert_eq!(bench.prepared().supports_rollback(), Ok(true));
}

#[test]
fn an_answer_with_an_exit_status_is_an_error() {
    let bench = Bench::new("echo Yes; exit 1");
    let mut module = bench.prepared();
    assert_eq!(module.supports_rollback().expect_err("exit 1").code, "MODULE-FAILED");
    assert_eq!(module.needs_reboot().expect_err("exit 1").code, "MODULE-FAILED");
}

#[test]
fn what_a_question_prints_on_standard_error_is_no_answer() {
    let bench = Bench::new("echo No >&2; echo Yes");
    assert_eq!(bench.prepared().supports_rollback(), Ok(true));
}

#[test]
fn a_call_that_fails_names_module_command_and_status() {
    for (script, how) in [("exit 21", "exit status 21"), ("kill -9 $$", "signal 9")] {
        let bench = Bench::new(script);
        let error = bench.prepared().install().expect_err("fails");
        assert_eq!(error.code, "MODULE-FAILED");
        assert!(
            error.text.contains("modules/v3/test ArtifactInstall") && error.text.contains(how),
            "{error}"
        );
    }
}

#[test]
fn a_flood_of_output_is_no_failure() {
    let bench = Bench::new("head -c 1048576 /dev/zero | tr '\\0' x; head -c 1048576 /dev/zero >&2");
    bench.prepared().install().expect("installs");
}

#[test]
fn a_call_beyond_its_time_gets_sigterm_and_may_tidy_up() {
    let bench = Bench::new("trap 'echo bye > bye; exit 0' TERM; while :; do sleep 0.05; done");
    let begin = Instant::now();
    let error = bench.prepared_with(0.3, 30.0).install().expect_err("too long");
    assert_eq!(error.code, "MODULE-TIMEOUT");
    assert!(bench.in_tree("bye").exists());
    assert!(begin.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_call_that_ignores_sigterm_is_killed_with_its_children_after_the_grace_time() {
    let bench = Bench::new("trap '' TERM; sleep 60 & echo $! > pids; echo $$ >> pids; sleep 60; sleep 60");
    let begin = Instant::now();
    let error = bench.prepared_with(0.3, 0.3).install().expect_err("too long");
    assert_eq!(error.code, "MODULE-TIMEOUT");
    assert!(begin.elapsed() < Duration::from_secs(10));
    let pids = lines(&bench.in_tree("pids"));
    assert_eq!(pids.len(), 2);
    assert!(pids.iter().all(|pid| !alive(pid)), "{pids:?}");
}

#[test]
fn a_question_has_the_same_time_limit() {
    let bench = Bench::new("echo Yes; sleep 60");
    let error = bench.prepared_with(0.3, 5.0).supports_rollback().expect_err("too long");
    assert_eq!(error.code, "MODULE-TIMEOUT");
}

#[test]
fn a_service_left_running_does_not_hold_up_the_call() {
    let bench = Bench::new("sleep 60 & echo $! > pid");
    let begin = Instant::now();
    bench.prepared().install().expect("installs");
    assert!(begin.elapsed() < Duration::from_secs(5));
    let pid = lines(&bench.in_tree("pid"))[0].clone();
    assert!(alive(&pid), "what a module starts is its own");
    bench::end(&pid);
}

#[test]
fn a_module_that_is_missing_or_cannot_be_run_is_named_with_its_path() {
    let bench = Bench::new("exit 0");
    let module = bench.prepared();
    let path = bench.program();
    let check = |why: &str| {
        for result in [module.check(), module.clone().install(), module.clone().store(&mut Fake::none())] {
            let error = result.expect_err(why);
            assert_eq!(error.code, "MODULE-MISSING");
            assert!(error.text.contains(&path.display().to_string()) && error.text.contains(why), "{error}");
        }
        assert_eq!(module.clone().supports_rollback().expect_err(why).code, "MODULE-MISSING");
        assert_eq!(module.clone().needs_reboot().expect_err(why).code, "MODULE-MISSING");
    };
    module.check().expect("fine as yet");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("mode");
    check("not executable");
    fs::remove_file(&path).expect("removes");
    check("No such file");
    fs::create_dir(&path).expect("creates");
    check("not a file");
}

#[test]
fn a_module_may_be_a_link_to_a_program() {
    let bench = Bench::new("touch ran");
    let elsewhere = bench.dir().join("elsewhere");
    fs::rename(bench.program(), &elsewhere).expect("moves");
    std::os::unix::fs::symlink(&elsewhere, bench.program()).expect("links");
    bench.prepared().install().expect("installs");
    assert!(bench.in_tree("ran").exists());
}

#[test]
fn a_program_that_the_system_cannot_start_is_an_error() {
    let bench = Bench::new("exit 0");
    fs::write(bench.program(), "#!/no/such/interpreter\n").expect("writes");
    let mut module = bench.prepared();
    assert_eq!(module.install().expect_err("cannot start").code, "MODULE-START");
    assert_eq!(module.store(&mut Fake::none()).expect_err("cannot start").code, "MODULE-START");
    assert_eq!(module.cleanup().expect_err("cannot start").code, "MODULE-START");
    assert!(bench.tree().exists(), "M40: who could not be asked has not cleaned up");
}

#[test]
fn a_type_that_leads_out_of_the_directory_of_modules_is_refused() {
    let bench = Bench::new("exit 0");
    for bad in ["../../bin/sh", "/bin/sh", "..", ".", "", "a/b", "a\0b"] {
        let made = Module::new(bad, bench.dir(), bench.dir(), Duration::from_secs(1));
        assert_eq!(made.expect_err(bad).code, "MODULE-TYPE");
    }
}

#[test]
fn without_its_tree_no_call_is_made_and_cleanup_is_done() {
    let bench = Bench::new("touch \"$2/../../called\"; echo Yes");
    let mut module = bench.prepared();
    fs::remove_dir_all(bench.tree()).expect("removes");
    assert_eq!(module.install().expect_err("no tree").code, "MODULE-TREE");
    assert_eq!(module.supports_rollback().expect_err("no tree").code, "MODULE-TREE");
    assert_eq!(module.store(&mut Fake::none()).expect_err("no tree").code, "MODULE-TREE");
    module.cleanup().expect("nothing to do");
    fs::remove_file(bench.program()).expect("removes");
    module.cleanup().expect("still nothing to do");
    assert!(!bench.tree().join("../../called").exists());
}

#[test]
fn cleanup_removes_the_tree_whatever_the_module_says() {
    for (script, result) in [("ls > ../seen", None), ("exit 1", Some("MODULE-FAILED"))] {
        let bench = Bench::new(script);
        let mut module = bench.prepared();
        fs::create_dir(bench.in_tree("tmp/deep")).expect("creates");
        std::os::unix::fs::symlink("/etc", bench.in_tree("tmp/deep/link")).expect("links");
        assert_eq!(module.cleanup().err().map(|e| e.code), result);
        assert!(!bench.tree().exists());
        assert!(std::path::Path::new("/etc/passwd").exists());
        module.cleanup().expect("a second time there is nothing to do");
    }
}

#[test]
fn cleanup_may_remove_the_tree_itself() {
    let bench = Bench::new("cd /; rm -rf \"$2\"");
    bench.prepared().cleanup().expect("cleans up");
}

#[test]
fn cleanup_leaves_the_tree_if_the_module_is_missing() {
    let bench = Bench::new("exit 0");
    let mut module = bench.prepared();
    fs::remove_file(bench.program()).expect("removes");
    assert_eq!(module.cleanup().expect_err("missing").code, "MODULE-MISSING");
    assert!(bench.tree().exists());
}

#[test]
fn a_missing_module_for_the_root_file_system_leads_to_a_restart() {
    let bench = Bench::of("rootfs-image", "exit 0");
    let mut module = bench.prepared();
    fs::remove_file(bench.program()).expect("removes");
    assert_eq!(module.verify_reboot().expect_err("cannot verify").code, "MODULE-MISSING");
    assert_eq!(module.supports_rollback(), Ok(true));
    assert_eq!(module.rollback(), Ok(()));
    assert_eq!(module.needs_reboot(), Ok(Reboot::Automatic));
    assert_eq!(module.verify_rollback_reboot().expect_err("still the wrong system").code, "MODULE-MISSING");
    assert_eq!(module.commit().expect_err("nothing to commit with").code, "MODULE-MISSING");
}

#[test]
fn a_module_that_takes_over_a_root_file_system_update_finds_the_part_about_the_device() {
    let bench = Bench::of("rootfs-image", "cat version current_artifact_name current_device_type > tmp/seen");
    let mut module = bench.module().taking_over(bench::current());
    module.verify_reboot().expect("verifies");
    assert_eq!(lines(&bench.in_tree("tmp/seen")), ["3", "old-name", "test-type"]);
    module.cleanup().expect("cleans up");
    module.cleanup().expect("nothing there any more, and nothing made anew");
    assert!(!bench.tree().exists());
}

#[test]
fn a_module_that_has_its_own_tree_keeps_it_when_it_might_have_taken_over() {
    let bench = Bench::of("rootfs-image", "exit 0");
    let mut module = bench.prepared().taking_over(thimble::install::module::Current::default());
    module.verify_reboot().expect("verifies");
    assert_eq!(lines(&bench.in_tree("current_artifact_name")), ["old-name"]);
}
