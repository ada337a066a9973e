//! The targets on stable Rust, with the inputs in the repository.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::TARGETS;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn names_in(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn no_input_of_the_corpus_makes_its_target_fail() {
    for (target, act) in TARGETS {
        let corpus = fuzz().join("corpus").join(target);
        let inputs = names_in(&corpus);
        assert!(!inputs.is_empty(), "{target} has no input");
        for name in inputs {
            let input = fs::read(corpus.join(&name)).unwrap();
            assert!(input.len() <= 64 << 10, "fuzz/corpus/{target}/{name} is too large");
            let ran = std::panic::catch_unwind(|| act(&input));
            assert!(ran.is_ok(), "fuzz/corpus/{target}/{name}: see above");
        }
    }
}

#[test]
fn every_target_has_a_program_and_a_corpus_and_there_are_no_others() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(targets.len(), TARGETS.len(), "two targets have one name");
    assert_eq!(names_in(&fuzz().join("corpus")), targets, "fuzz/corpus");
    let manifest: toml::Table =
        toml::from_str(&fs::read_to_string(fuzz().join("Cargo.toml")).unwrap()).unwrap();
    let programs = manifest["bin"].as_array().unwrap();
    let programs = programs.iter().map(|bin| bin["name"].as_str().unwrap().to_owned());
    assert_eq!(programs.collect::<BTreeSet<_>>(), targets, "fuzz/Cargo.toml");
    for name in &targets {
        let program = fs::read_to_string(fuzz().join(format!("programs/{name}.rs"))).unwrap();
        assert!(program.contains(&format!("run({name:?}, input)")), "fuzz/programs/{name}.rs");
    }
}

#[test]
fn the_corpus_is_small() {
    let corpus = fuzz().join("corpus");
    let inputs = TARGETS.iter().flat_map(|(target, _)| {
        let corpus = corpus.join(target);
        names_in(&corpus)
            .into_iter()
            .map(move |name| fs::metadata(corpus.join(name)).unwrap().len())
    });
    assert!(inputs.sum::<u64>() < 300 << 10);
}
