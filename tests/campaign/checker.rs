//! What must be true after every fault, once `reap` has run twice.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;

use mayfly::model::VmPhase;
use mayfly::registry::RegistryContents;

use super::ground::Ground;
use super::support::traces;

impl Ground {
    /// Reaps twice and checks everything. No command may be running.
    pub fn check(&self, after: &str) {
        let first = self.run(&["reap"]);
        assert_eq!(first.code, Some(0), "after {after}: {first:#?}");
        let second = self.run(&["reap"]);
        assert_eq!(second.code, Some(0), "after {after}: {second:#?}");
        assert_eq!(second.stdout, "", "after {after}, the second reap found more: {first:#?}");
        assert_eq!(second.stderr, "", "after {after}");

        let contents = self.registry();
        let before = self.generation.swap(contents.generation, Ordering::SeqCst);
        let now = contents.generation;
        assert!(now >= before, "after {after}: generation {before} became {now}");

        let ids: BTreeSet<String> = contents.vms.keys().map(|id| id.to_string()).collect();
        self.check_files(&ids, after);
        let temporary = names(&self.path("tmp"));
        assert!(temporary.is_empty(), "after {after}: {temporary:?} are left in TMPDIR");
        self.check_templates(after);
        self.check_processes(&contents, after);
        self.check_mounts(after);
        if self.machine_is_ours {
            let traces = traces::of_nobody();
            assert!(traces.is_empty(), "after {after}: {traces:?}");
        }
        self.check_promises(&ids, after);
        self.canaries.assert_live();
    }

    fn check_files(&self, ids: &BTreeSet<String>, after: &str) {
        let directories: BTreeSet<String> = names(&self.state.join("vms")).into_iter().collect();
        assert_eq!(&directories, ids, "after {after}: directories and records differ");
        for directory in self.run_dirs() {
            for name in names(&directory) {
                assert!(ids.contains(&name), "after {after}: {name} is left in {directory:?}");
            }
        }
        for name in names(&self.state.join("locks")) {
            let id = name.strip_suffix(".lock").unwrap_or(&name);
            assert!(ids.contains(id), "after {after}: the lock {name} guards nothing");
        }
        const KNOWN: [&str; 7] = [
            "locks",
            "marks.key",
            "registry.json",
            "registry.json.damaged",
            "registry.lock",
            "reserve",
            "vms",
        ];
        for name in names(&self.state) {
            assert!(KNOWN.contains(&name.as_str()), "after {after}: {name} is left");
        }
        for id in ids {
            let names = names(&self.state.join("vms").join(id));
            assert!(names.contains(&"manifest.json".to_owned()), "after {after}: {id}: {names:?}");
            assert!(!names.iter().any(|name| name.ends_with(".new")), "after {after}: {names:?}");
        }
    }

    fn check_templates(&self, after: &str) {
        let names: BTreeSet<String> =
            names(&self.artifacts().join("templates")).into_iter().collect();
        for name in &names {
            let is_left = match name.strip_prefix('.') {
                None => false,
                Some(hidden) => {
                    !hidden.strip_suffix(".lock").is_some_and(|name| names.contains(name))
                }
            };
            assert!(!is_left, "after {after}: {name} is left among templates: {names:?}");
        }
    }

    /// Nothing may be left of images that were being made.
    pub fn check_artifacts(&self, after: &str) {
        for name in names(&self.artifacts()) {
            assert!(!name.starts_with(".build-"), "after {after}: {name} is left among images");
        }
    }

    fn check_processes(&self, contents: &RegistryContents, after: &str) {
        let marked = self.processes();
        let mut owners = BTreeSet::new();
        for record in contents.vms.values() {
            let id = record.id().to_string();
            match &record.state {
                VmPhase::Created | VmPhase::Stopped { .. } => {}
                VmPhase::Started { instance } | VmPhase::Pooled { instance } => {
                    let pid = instance.process.pid;
                    let lives = marked.iter().any(|process| process.pid == pid);
                    assert!(lives, "after {after}: {id} is started without a VMM");
                    owners.insert(self.state.join("vms").join(&id).display().to_string());
                }
                other => panic!("after {after}: {id} is left {other:?}"),
            }
        }
        for process in marked {
            assert!(owners.contains(&process.vm_dir), "after {after}: {process:?} is unrecorded");
        }
    }

    fn check_mounts(&self, after: &str) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let base = self.base().display().to_string();
        assert!(!mounts.contains(&base), "after {after}: something is mounted below {base}");
    }

    fn check_promises(&self, ids: &BTreeSet<String>, after: &str) {
        for id in self.ledger.promised() {
            assert!(ids.contains(&id), "after {after}: {id} was acknowledged and is gone");
        }
        for id in self.ledger.gone() {
            assert!(!ids.contains(&id), "after {after}: {id} was deleted and is back");
        }
    }
}

/// The names in a directory; none if it does not exist.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
