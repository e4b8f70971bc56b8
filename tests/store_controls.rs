//! The record of update control maps: several writers, drop-ins of applications, damage, and how little it writes.
#![allow(clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;
use thimble::agent::control::{Change, ControlMap, Lifetimes, Point, Pool, Verdict};
use thimble::json;
use thimble::store::PoolStore;
use thimble_testkit::TempDir;

const ID: &str = "00000000-0000-4000-8000-00000000000a";

fn lives() -> Lifetimes {
    Lifetimes { normal: Duration::from_secs(600), boot: Duration::from_secs(60) }
}

fn text(id: &str, priority: i8, action: &str) -> String {
    format!(
        r#"{{"id":"{id}","priority":{priority},"states":{{"ArtifactInstall_Enter":{{"action":"{action}"}}}}}}"#
    )
}

fn map(priority: i8, action: &str) -> ControlMap {
    let value = json::parse(&text(ID, priority, action)).expect("JSON");
    ControlMap::parse(&value).expect("valid").expect("a map")
}

struct Scene {
    dir: TempDir,
    store: PoolStore,
}

impl Scene {
    fn new(name: &str) -> Scene {
        let dir = TempDir::new(name);
        let store = PoolStore::open(dir.path(), "boot-1", lives());
        Scene { dir, store }
    }

    fn insert(&mut self, map: &ControlMap) -> Change {
        let inserted = self.store.modify(|pool, at| pool.insert(map.clone(), at.now, &at.lives));
        inserted.expect("saved").expect("taken")
    }

    fn look(&mut self) -> Pool {
        self.store.modify(|pool, _| pool.clone()).expect("works")
    }

    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(self.dir.path()).expect("lists").flatten();
        let mut names: Vec<_> = names.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn drop_in(&self, name: &str, content: &str) -> PathBuf {
        let dir = self.dir.path().join("control.d");
        fs::create_dir_all(&dir).expect("control.d");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).expect("its mode");
        let path = dir.join(name);
        fs::write(&path, content).expect("writes");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("its mode");
        path
    }

    fn dropped(&self) -> Vec<String> {
        let names = fs::read_dir(self.dir.path().join("control.d")).expect("lists").flatten();
        let mut names: Vec<_> = names.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn says(&mut self) -> Verdict {
        self.look().explain(Point::Install, thimble::sys::clock::since_boot()).verdict
    }
}

#[test]
fn where_there_are_no_maps_nothing_is_touched() {
    let mut scene = Scene::new("untouched");
    assert!(scene.look().is_empty());
    assert!(scene.store.read().expect("reads").is_empty());
    assert!(!scene.store.modify(|pool, _| pool.remove_deployment(ID)).expect("works"));
    assert_eq!(scene.names(), Vec::<String>::new());
}

#[test]
fn a_map_is_there_for_the_next_process_and_looking_writes_nothing() {
    let mut scene = Scene::new("kept");
    assert_eq!(scene.insert(&map(1, "pause")), Change::Added);
    let mut other = PoolStore::open(scene.dir.path(), "boot-1", lives());
    assert_eq!(other.read().expect("reads"), scene.look());
    let before = fs::read(scene.dir.path().join("thimble-control.a")).expect("copy a");
    for _ in 0..3 {
        assert_eq!(other.modify(|pool, at| pool.maps(at.now).count()).expect("works"), 1);
    }
    assert_eq!(fs::read(scene.dir.path().join("thimble-control.a")).expect("copy a"), before);
    assert_eq!(scene.names(), ["thimble-control.a", "thimble-control.lock"]);
    let changes = scene.look().changes();
    other.modify(|pool, at| pool.insert(map(2, "fail"), at.now, &at.lives)).expect("saved").expect("taken");
    assert_eq!(scene.look().changes(), changes + 1, "the other process sees that something has changed");
    assert_eq!(scene.says(), Verdict::Fail);
}

#[test]
fn another_boot_starts_the_boot_lifetime_once() {
    let mut scene = Scene::new("boot");
    scene.insert(&map(0, "pause"));
    let left = |store: &mut PoolStore| {
        store
            .modify(|pool, at| pool.maps(at.now).next().and_then(|m| m.expires_in))
            .expect("works")
            .expect("alive")
    };
    let mut next = PoolStore::open(scene.dir.path(), "boot-2", lives());
    let first = left(&mut next);
    assert!(first <= Duration::from_secs(60), "{first:?}");
    std::thread::sleep(Duration::from_millis(20));
    let mut again = PoolStore::open(scene.dir.path(), "boot-2", lives());
    assert!(left(&mut again) < first, "it goes on, it does not start again");
}

#[test]
fn an_empty_pool_is_not_written_again_in_every_boot() {
    let mut scene = Scene::new("empty");
    scene.insert(&map(0, "pause"));
    assert!(scene.store.modify(|pool, _| pool.remove_deployment(ID)).expect("works"));
    let names = scene.names();
    let before: Vec<_> = names.iter().map(|n| fs::read(scene.dir.path().join(n)).expect("reads")).collect();
    let mut next = PoolStore::open(scene.dir.path(), "boot-2", lives());
    assert!(next.modify(|pool, _| pool.is_empty()).expect("works"));
    let after: Vec<_> = names.iter().map(|n| fs::read(scene.dir.path().join(n)).expect("reads")).collect();
    assert_eq!(before, after);
}

#[test]
fn a_damaged_record_is_an_error_until_it_is_started_anew() {
    type Damage = fn(&Scene);
    let damages: [Damage; 3] = [
        |scene| fs::write(scene.dir.path().join("thimble-control.a"), b"garbage").expect("writes"),
        |scene| {
            let mut record = thimble::store::Durable::new(scene.dir.path(), "thimble-control", *b"THC1");
            record.save(br#"{"version":2}"#).expect("saves");
        },
        |scene| {
            let path = scene.dir.path().join("thimble-control.a");
            let mut bytes = fs::read(&path).expect("reads");
            *bytes.last_mut().expect("not empty") ^= 1;
            fs::write(&path, bytes).expect("writes");
        },
    ];
    for damage in damages {
        let mut scene = Scene::new("damaged");
        scene.insert(&map(0, "pause"));
        damage(&scene);
        assert_eq!(scene.store.read().expect_err("damaged").code, "CONTROL-DAMAGED");
        for _ in 0..2 {
            let e = scene.store.modify(|_, _| ()).expect_err("damaged");
            assert_eq!(e.code, "CONTROL-DAMAGED");
            // Nor does another process take it for an empty pool.
            let mut other = PoolStore::open(scene.dir.path(), "boot-1", lives());
            assert_eq!(other.modify(|_, _| ()).expect_err("damaged").code, "CONTROL-DAMAGED");
        }
        scene.store.start_anew().expect("works");
        assert!(scene.look().is_empty());
        assert_eq!(scene.insert(&map(0, "fail")), Change::Added);
        let kept = scene.names().into_iter().any(|n| n.ends_with(".broken") || n.ends_with(".unreadable"));
        assert!(kept, "{:?}", scene.names());
    }
}

#[test]
fn drop_ins_are_taken_in_and_removed() {
    let mut scene = Scene::new("dropped");
    scene.drop_in("app.json", &text(ID, 0, "pause"));
    scene.drop_in(".app.json.tmp", "half written");
    scene.drop_in("notes.txt", "not ours");
    assert!(scene.store.read().expect("reads").is_empty(), "reading alone changes nothing");
    assert_eq!(scene.says(), Verdict::Pause);
    assert_eq!(scene.dropped(), [".app.json.tmp", "notes.txt"]);
    scene.drop_in("app.json", &format!(r#"{{"id":"{ID}","states":{{}}}}"#));
    assert_eq!(scene.says(), Verdict::Continue);
    assert!(scene.look().is_empty(), "a map that says nothing deletes");
}

#[test]
fn a_drop_in_that_a_power_cut_left_half_taken_comes_first() {
    let mut scene = Scene::new("half");
    scene.drop_in(".app.json.0.taken", &text(ID, 0, "fail"));
    scene.drop_in("app.json", &text(ID, 0, "pause"));
    assert_eq!(scene.says(), Verdict::Pause);
    assert_eq!(scene.dropped(), Vec::<String>::new());
}

#[test]
fn drop_ins_that_cannot_be_used_are_set_aside_and_block_nothing() {
    let mut scene = Scene::new("refused");
    let target = scene.drop_in("target", &text(ID, 0, "fail"));
    scene.drop_in("a-text.json", "{");
    scene.drop_in("b-rule.json", &text(ID, 0, "dance"));
    scene.drop_in("c-null.json", "null");
    scene.drop_in("d-long.json", &format!("{}{}", text(ID, 0, "fail"), " ".repeat(20_000)));
    let open = scene.drop_in("e-mode.json", &text(ID, 0, "fail"));
    fs::set_permissions(&open, fs::Permissions::from_mode(0o666)).expect("its mode");
    std::os::unix::fs::symlink(&target, target.with_file_name("f-link.json")).expect("a link");
    fs::hard_link(&target, target.with_file_name("g-hard.json")).expect("a link");
    fs::create_dir(target.with_file_name("h-dir.json")).expect("a directory");
    thimble::sys::file::make_fifo(&target.with_file_name("i-pipe.json"), 0o600).expect("a pipe");
    scene.drop_in("z-good.json", &text(ID, 0, "pause"));
    assert_eq!(scene.says(), Verdict::Pause);
    let refused: Vec<_> = scene.dropped().into_iter().filter(|n| n.ends_with(".refused")).collect();
    assert_eq!(refused.len(), 9, "{refused:?}");
    assert_eq!(scene.dropped().len(), 10, "{:?}", scene.dropped());
    assert_eq!(scene.look().maps(Duration::ZERO).count(), 1);
}

#[test]
fn a_directory_that_others_may_write_to_is_not_used() {
    let mut scene = Scene::new("open");
    let path = scene.drop_in("a.json", &text(ID, 0, "pause"));
    let dir = path.parent().expect("control.d").to_owned();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).expect("its mode");
    assert_eq!(scene.says(), Verdict::Continue);
    assert!(path.exists());
}

/// Only root can give a directory away.
#[test]
fn a_directory_of_somebody_else_or_a_link_to_one_is_not_used() {
    let mut scene = Scene::new("foreign");
    let path = scene.drop_in("a.json", &text(ID, 0, "fail"));
    let dir = path.parent().expect("control.d").to_owned();
    if thimble::sys::file::own_uid() == 0 {
        std::os::unix::fs::chown(&dir, Some(65534), None).expect("another owner");
        assert_eq!(scene.says(), Verdict::Continue);
        std::os::unix::fs::chown(&dir, Some(0), None).expect("the owner");
    }
    let elsewhere = scene.dir.path().join("elsewhere");
    fs::rename(&dir, &elsewhere).expect("moves it");
    std::os::unix::fs::symlink(&elsewhere, &dir).expect("a link");
    assert_eq!(scene.says(), Verdict::Continue);
    assert!(elsewhere.join("a.json").exists(), "it is left alone");
    fs::remove_file(&dir).and_then(|()| fs::rename(&elsewhere, &dir)).expect("moves it back");
    let mut store = PoolStore::open(scene.dir.path(), "boot-1", lives());
    let pool = store.modify(|pool, _| pool.clone()).expect("works");
    let verdict = pool.explain(Point::Install, thimble::sys::clock::since_boot()).verdict;
    assert_eq!(verdict, Verdict::Fail, "or else this test proves nothing");
}

#[test]
fn two_processes_that_set_maps_lose_none() {
    let scene = Scene::new("both");
    let threads: Vec<_> = (0..2)
        .map(|half: i8| {
            let mut store = PoolStore::open(scene.dir.path(), "boot-1", lives());
            std::thread::spawn(move || {
                for n in 0..10 {
                    let map = map(n - half * 10, "pause");
                    store
                        .modify(|pool, at| pool.insert(map.clone(), at.now, &at.lives))
                        .expect("saved")
                        .expect("taken");
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
    let pool = scene.store.read().expect("reads");
    assert_eq!((pool.maps(Duration::ZERO).count(), pool.changes()), (20, 20));
}
