//! `git bisect run` understands the exit codes of `mayfly run`.

use std::path::PathBuf;
use std::process::Command;

use crate::support::answer::Answer;
use crate::support::environment::Environment;

/// A repository in which every commit has its own `check.sh` and `profile`, oldest first.
struct Repository<'a> {
    env: &'a Environment,
    directory: PathBuf,
}

impl<'a> Repository<'a> {
    fn new(env: &'a Environment, commits: &[(&str, &str)]) -> Repository<'a> {
        let directory = env.root().join("repository");
        let repository = Repository { env, directory };
        repository.ok(&["init", "--quiet", "--initial-branch=main", "."]);
        for (number, (check, profile)) in commits.iter().enumerate() {
            std::fs::write(repository.directory.join("check.sh"), format!("{check}\n")).unwrap();
            std::fs::write(repository.directory.join("profile"), profile).unwrap();
            std::fs::write(repository.directory.join("number"), number.to_string()).unwrap();
            repository.ok(&["add", "."]);
            repository.ok(&["commit", "--quiet", "--message", &format!("commit {number}")]);
        }
        repository
    }

    fn git(&self, args: &[&str]) -> Answer {
        std::fs::create_dir_all(&self.directory).unwrap();
        let mut command: Command = self.env.client("git", args);
        command.current_dir(&self.directory);
        for (name, value) in [
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_AUTHOR_NAME", "A"),
            ("GIT_AUTHOR_EMAIL", "a@localhost"),
            ("GIT_COMMITTER_NAME", "A"),
            ("GIT_COMMITTER_EMAIL", "a@localhost"),
        ] {
            command.env(name, value);
        }
        let output = command.output().expect("git is installed");
        Answer::new(format!("git {args:?}"), output)
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) {
        self.git(args).is(0, "[..]", "[..]");
    }

    /// Searches between the first commit, which is good, and the last, which is bad.
    fn bisect(&self) -> Answer {
        let first = format!("main~{}", self.count() - 1);
        self.ok(&["bisect", "start", "main", &first]);
        let check = "git archive HEAD | \
                     mayfly run -i -p $(cat profile) --timeout 2s -c 'tar x && sh check.sh'";
        self.git(&["bisect", "run", "sh", "-c", check])
    }

    fn count(&self) -> usize {
        self.git(&["rev-list", "main"]).stdout().lines().count()
    }
}

const GOOD: (&str, &str) = ("true", "debian-base");
const BAD: (&str, &str) = ("echo broken >&2; exit 1", "debian-base");

#[test]
fn the_first_bad_commit_is_found() {
    let env = Environment::mock();
    let commits = [GOOD, GOOD, GOOD, BAD, BAD, BAD, BAD, BAD];
    let repository = Repository::new(&env, &commits);
    let answer = repository.bisect();
    answer.is(0, "[..]is the first bad commit\n[..]commit 3\n[..]", "[..]");
    assert!(env.ids().is_empty());
}

#[test]
fn a_commit_that_mayfly_itself_cannot_judge_is_skipped_not_blamed() {
    let env = Environment::mock();
    // 125 is a failure of mayfly itself, and makes bisect skip the commit.
    let unjudged = ("exit 1", "no-such-profile");
    let commits = [GOOD, GOOD, GOOD, unjudged, GOOD, GOOD, BAD, BAD];
    let repository = Repository::new(&env, &commits);
    let answer = repository.bisect();
    answer.is(0, "[..]is the first bad commit\n[..]commit 6\n[..]", "[..]");
    assert!(answer.stderr().contains("no profile \"no-such-profile\""), "{answer}");
}

#[test]
fn a_commit_that_hangs_is_a_bad_one() {
    let env = Environment::mock();
    let hangs = ("sleep 600", "debian-base");
    let repository = Repository::new(&env, &[GOOD, GOOD, hangs, BAD]);
    let answer = repository.bisect();
    answer.is(0, "[..]is the first bad commit\n[..]commit 2\n[..]", "[..]");
    assert!(answer.stderr().contains("mayfly: command timed out after 2s"), "{answer}");
}

#[test]
fn a_killed_command_ends_the_search_unless_its_code_is_mapped() {
    let env = Environment::mock();
    let crashes = "kill -SEGV $$";
    let repository = Repository::new(&env, &[GOOD, GOOD, (crashes, "debian-base"), BAD]);
    let answer = repository.bisect();
    assert_ne!(answer.code(), 0, "{answer}");
    assert!(answer.stderr().contains("139"), "{answer}");
    repository.ok(&["bisect", "reset"]);

    let caught = format!("sh -c '{crashes}' || exit 1");
    let env = Environment::mock();
    let repository = Repository::new(&env, &[GOOD, GOOD, (&caught, "debian-base"), BAD]);
    repository.bisect().is(0, "[..]is the first bad commit\n[..]commit 2\n[..]", "[..]");
}
