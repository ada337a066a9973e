//! Where the words of the guest's command begin on a command line.

use std::ffi::{OsStr, OsString};

use clap::{Arg, Command};

/// The index of the first word of the guest's command, if no `--` precedes it: as with docker and ssh, the command
/// begins with the first word that is neither a flag, nor a flag's value, nor the VM.
pub fn command_start(tree: &Command, words: &[OsString]) -> Option<usize> {
    let mut verb = tree;
    let mut flags: Vec<&Arg> = Vec::new();
    let mut operands = 0;
    let mut rest = words.iter().enumerate().skip(1).peekable();
    while let Some((at, word)) = rest.next() {
        let word = word.to_string_lossy();
        if word == "--" {
            return None;
        }
        if is_flag(&word) {
            let (typed, takes_next) = flags_in(&word, &[verb, tree]);
            flags.extend(typed);
            if takes_next {
                let allows_hyphen =
                    flags.last().is_some_and(|flag| flag.is_allow_hyphen_values_set());
                rest.next_if(|(_, value)| allows_hyphen || !is_flag(&value.to_string_lossy()));
            }
        } else if verb.has_subcommands() {
            verb = verb.find_subcommand(&*word)?;
        } else {
            verb.get_positionals().find(|arg| arg.is_last_set())?;
            let before: Vec<&Arg> =
                verb.get_positionals().filter(|arg| !arg.is_last_set()).collect();
            // A flag such as '--all' takes the place of the VM.
            let is_replaced = |arg: &Arg| {
                verb.get_arg_conflicts_with(arg).iter().any(|other| flags.contains(other))
            };
            let expected = before.iter().filter(|arg| !is_replaced(arg)).count();
            let is_separated = rest.peek().is_some_and(|(_, next)| *next == "--");
            if operands < expected {
                operands += 1;
            } else if is_separated && operands < before.len() {
                // 'exec --all box -- true': the parser refuses the VM.
                return None;
            } else {
                return Some(at);
            }
        }
    }
    None
}

fn is_flag(word: &str) -> bool {
    word.len() > 1 && word.starts_with('-')
}

/// The flags in a word, and whether the value of the last one is the next word.
fn flags_in<'a>(word: &str, commands: &[&'a Command]) -> (Vec<&'a Arg>, bool) {
    let find = |is_it: &dyn Fn(&Arg) -> bool| {
        commands.iter().find_map(|command| command.get_arguments().find(|arg| is_it(arg)))
    };
    let takes_value = |arg: &Arg| arg.get_action().takes_values() && !arg.is_require_equals_set();
    if let Some(long) = word.strip_prefix("--") {
        let name = long.split_once('=').map_or(long, |(name, _)| name);
        let flag = find(&|arg| {
            arg.get_long() == Some(name)
                || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
        });
        return (flag.into_iter().collect(), name == long && flag.is_some_and(takes_value));
    }
    let mut flags = Vec::new();
    let mut letters = word[1..].chars();
    while let Some(letter) = letters.next() {
        let Some(flag) = find(&|arg| arg.get_short() == Some(letter)) else { break };
        flags.push(flag);
        if takes_value(flag) {
            return (flags, letters.as_str().is_empty());
        }
    }
    (flags, false)
}

/// Inserts the `--` that the user did not have to type. Returns whether there was one to insert.
pub fn separate_command(tree: &Command, words: &mut Vec<OsString>) -> bool {
    let start = command_start(tree, words);
    start.into_iter().for_each(|at| words.insert(at, OsStr::new("--").to_owned()));
    start.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The command on a line, if it begins without `--`.
    fn command(line: &str) -> Option<String> {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let start = command_start(&crate::cli::command(), &words)?;
        Some(line.split(' ').skip(start).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn a_command_begins_after_the_flags_and_the_vm() {
        for (line, expected) in [
            ("mayfly run uname -r", "uname -r"),
            ("mayfly --json run -p x --mem=1G -e A=b --keep ls --help", "ls --help"),
            ("mayfly --state-dir d --color never run --color always ls", "ls"),
            ("mayfly run -itw /tmp -uroot ls -l", "ls -l"),
            ("mayfly run --keep=no --copy-in a:b cmd -- x", "cmd -- x"),
            ("mayfly exec box ls -la /", "ls -la /"),
            ("mayfly exec --keep box -e A=b env", "env"),
            ("mayfly exec --all uptime -p", "uptime -p"),
            ("mayfly exec --keep --all --label a=b -j 2 uptime", "uptime"),
            ("mayfly shell box -u nobody top -d 1", "top -d 1"),
            ("mayfly run - x", "- x"),
            ("mayfly run --unknown ls", "ls"),
        ] {
            assert_eq!(command(line).as_deref(), Some(expected), "{line}");
        }
        for line in [
            "mayfly",
            "mayfly run",
            "mayfly run -- ls",
            "mayfly run -p x -- ls",
            "mayfly run -c ls",
            "mayfly run -c ls --json",
            "mayfly run -p",
            "mayfly exec box",
            "mayfly exec box -c ls --keep",
            "mayfly exec -itc ls box",
            "mayfly exec box -- ls",
            "mayfly exec --all box -- ls",
            "mayfly rm a b",
            "mayfly image ls",
            "mayfly nonsense run ls",
            "mayfly --state-dir run ls",
        ] {
            assert_eq!(command(line), None, "{line}");
        }
    }
}
