//! mayfly-config(5), written from the table of keys.

use clap_mangen::roff::{Inline, Roff, bold, italic, roman};
use mayfly::settings::{ConfigKey, KEYS, KeyForm};

/// The page's source.
pub fn page() -> String {
    let mut roff = Roff::new();
    roff.control("TH", ["MAYFLY-CONFIG", "5", "", SOURCE, "mayfly manual"]);
    heading(&mut roff, "NAME");
    roff.text([roman("config.toml - defaults of mayfly's flags")]);
    heading(&mut roff, "SYNOPSIS");
    for file in ["$MAYFLY_CONFIG", "~/.config/mayfly/config.toml", "/etc/mayfly/config.toml"] {
        roff.text([italic(file)]);
        roff.control("br", []);
    }
    heading(&mut roff, "DESCRIPTION");
    for (number, paragraph) in DESCRIPTION.split("\n\n").enumerate() {
        if number > 0 {
            roff.control("PP", []);
        }
        roff.text([roman(paragraph)]);
    }
    heading(&mut roff, "KEYS");
    for key in &KEYS {
        entry(&mut roff, key);
    }
    heading(&mut roff, "EXAMPLE");
    roff.control("nf", []);
    roff.text([roman(EXAMPLE)]);
    roff.control("fi", []);
    heading(&mut roff, "SEE ALSO");
    roff.text([bold("mayfly"), roman("(1), "), bold("mayfly-config"), roman("(1)")]);
    let head = ".\\\" Written by 'make generate' from the program's own table of keys.\n";
    format!("{head}{}", roff.render()).replace("\n\n", "\n.sp\n")
}

const SOURCE: &str = concat!("mayfly ", env!("CARGO_PKG_VERSION"));

const DESCRIPTION: &str = "\
Each key gives the default of a flag, or of what has only an environment variable. It is called as the \
variable is, in small letters and without MAYFLY_. All keys may be left out.

Of all that can say what a value is, the first in this order wins: the flag, the variable, the file that \
MAYFLY_CONFIG names, the user's file, the system's file, the VM's profile, what is built in. 'mayfly config \
show' prints all values and where each comes from. What can be turned on in a file a flag turns off, as in \
--keep=no.

The user's file is in $XDG_CONFIG_HOME/mayfly, or in ~/.config/mayfly. Root has none but the system's and the \
one that MAYFLY_CONFIG names: its home may be somebody else's, as under sudo.

A file must belong to the user who runs mayfly or to root, and nobody else may be able to write it, or it is \
refused: who can write one can have mayfly run any program. The same holds for profiles.toml. A key that \
does not exist, and a value that a key cannot have, are errors that name the file and the line.

What concerns profiles is in profiles.toml: kinds of VM, their defaults, and the limits of all VMs.";

pub const EXAMPLE: &str = "\
# VMs of more than the usual size, that live for an hour.
mem = \"2G\"
vcpus = 2
ttl = \"1h\"

# Rather nothing than an emulated VM.
require = \"hardware\"

# Images take gigabytes.
artifacts_dir = \"/srv/mayfly\"
";

fn heading(roff: &mut Roff, title: &str) {
    roff.control("SH", [title]);
}

fn entry(roff: &mut Roff, key: &ConfigKey) {
    roff.control("TP", []);
    let mut line: Vec<Inline> = vec![bold(key.name), roman(" = ")];
    line.push(italic(match key.form {
        KeyForm::Choice(words) => {
            let words: Vec<String> = words().iter().map(|word| format!("{word:?}")).collect();
            words.join(" | ")
        }
        form => form.expected(),
    }));
    roff.text(line);
    let built_in = match (key.built_in, key.form) {
        (Some(value), KeyForm::Switch) => format!(" Default: {value}."),
        (Some(value), _) => format!(" Default: {value:?}."),
        (None, _) => String::new(),
    };
    let flag = key.flag.map_or_else(String::new, |flag| format!("; {flag}"));
    roff.text([roman(format!("{}{built_in} [{}{flag}]", key.about, key.variable()))]);
}
