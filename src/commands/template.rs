//! `mayfly template build`, `ls` and `rm`.

use anyhow::Result;
use clap::Subcommand;
use clap_complete::ArgValueCompleter;

use super::AppContext;
use super::build_progress::create_vm;
use super::completions::candidates;
use super::each::{DoneForm, each_done};
use super::flags::machine::MachineFlags;
use super::flags::stray_word::StrayWord;
use crate::host::signals::PendingSignals;
use crate::host::{clock, process};
use crate::lifecycle::{
    self, CreateRequest, PhaseTimings, RemovalReport, RemovedThing, StartCaller, StartOptions,
    StreamPurpose,
};
use crate::model::{Refusal, RefusalKind, VmRecord};
use crate::output::{RemovalView, TemplateView, templates_table};

/// Build, list and delete the templates VMs start from
///
/// A template is a VM that was frozen after it had booted. A new VM of the same profile, size and backend
/// starts as a copy of it, in a fraction of a second. 'start' and 'run' make a missing template themselves,
/// and 'reap' deletes templates that are not used.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mayfly template build --mem 2G     so that the first 'run --mem 2G' is fast
  mayfly template ls
  mayfly template rm --all")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Build the template for a kind of VM, and print its name
    ///
    /// The first VM of the kind then starts as fast as later ones. Builds the profile's image first if it is
    /// missing. A VM is started to check that the template works; it counts towards the limit of VMs, and is
    /// deleted.
    #[command(after_help = "\
Examples:
  mayfly template build                     for the VMs of a plain 'run'
  mayfly template build -p debian-build --vcpus 2 --mem 4G")]
    Build {
        #[command(flatten)]
        machine: MachineFlags,

        #[command(flatten)]
        stray: StrayWord,
    },

    /// List templates
    ///
    /// A damaged template is not used, but rebuilt when a VM needs it.
    #[command(after_help = "\
Examples:
  mayfly template ls
  mayfly template ls --json | jq -r '.[].template'")]
    Ls,

    /// Delete templates
    ///
    /// VMs that were started from a template keep running. Refused while a VM is being started from it.
    #[command(after_help = "\
Examples:
  mayfly template rm debian-base-f035822cdee9
  mayfly template rm --all")]
    Rm {
        /// Name of a template
        #[arg(
            required_unless_present = "all", value_name = "TEMPLATE",
            add = ArgValueCompleter::new(candidates::templates)
        )]
        names: Vec<String>,

        /// Delete all templates
        #[arg(long, conflicts_with = "names")]
        all: bool,

        /// Succeed even if there is no such template
        #[arg(short, long)]
        force: bool,
    },
}

pub fn serve(app: &AppContext, args: Args) -> Result<u8> {
    match args.action {
        Action::Build { machine, stray } => {
            stray.check(app, "template build", |_| "'-p' names the profile".into())?;
            build(app, machine)
        }
        Action::Ls => list(app),
        Action::Rm { names, all, force } => remove(app, names, all, force),
    }
}

/// Starts a VM, which makes the template, and deletes it.
fn build(app: &AppContext, mut machine: MachineFlags) -> Result<u8> {
    let app = &machine.provide_image(app)?;
    let manager = app.open()?;
    let mut signals = PendingSignals::block()?;
    let mut timings = PhaseTimings::begin();
    let owner = Some(process::identify_self()?);
    let request = CreateRequest { owner, keep: Some(false), ..machine.into_request() };
    let options = StartOptions { cold: false, purpose: StreamPurpose::Control };
    let mut remark = |remark| app.printer.remark(&remark);
    let mut caller =
        StartCaller { signals: &mut signals, timings: &mut timings, remark: &mut remark };
    let create = |signals: &mut PendingSignals, _| create_vm(app, &manager, &request, signals);
    let started = lifecycle::run(&manager, options, &mut caller, create, |agent, _, _| {
        Ok(agent.record.clone())
    })?;
    app.printer.timings(&timings);

    let name = template_of(&started.work)?;
    let listed = lifecycle::list_templates(&manager)?;
    let made = listed.iter().find(|listed| listed.name == name).ok_or_else(|| {
        let message = format!("template {name} was made, but another command deleted it");
        Refusal::new(RefusalKind::Busy, message)
    })?;
    app.printer.made(&TemplateView::new(made), name)?;
    Ok(0)
}

fn template_of(record: &VmRecord) -> Result<&str, Refusal> {
    let instance = record.state.instance();
    instance.and_then(|instance| instance.template.as_deref()).ok_or_else(|| {
        if record.manifest.image.is_empty() {
            Refusal::new(RefusalKind::Host, "the mock backend has no templates")
                .hint("name another backend with --backend")
        } else {
            // `start` has printed the reason.
            Refusal::new(RefusalKind::Host, "no template was made; a VM of this kind boots")
                .hint("'mayfly doctor' checks what this host can do")
        }
    })
}

fn list(app: &AppContext) -> Result<u8> {
    let manager = app.open_to_read()?;
    let templates = lifecycle::list_templates(&manager)?;
    let views: Vec<_> = templates.iter().map(TemplateView::new).collect();
    let names = templates.iter().map(|listed| listed.name.as_str());
    app.printer.list(
        &views,
        names,
        &templates_table(app.printer.layout(), &templates, &clock::now()?),
    )?;
    Ok(0)
}

fn remove(app: &AppContext, names: Vec<String>, all: bool, force: bool) -> Result<u8> {
    let manager = app.open()?;
    let names = if all {
        lifecycle::list_templates(&manager)?.into_iter().map(|one| one.name).collect()
    } else {
        names
    };
    let form = if all { DoneForm::Array } else { DoneForm::Lines };
    each_done(app, form, names.iter().map(|name| (name.as_str(), ())), |(), name| {
        // With --all, a template that another command deletes meanwhile is not missed.
        let deleted = lifecycle::remove_template(&manager, name, force || all)?;
        let removed = RemovalReport::explicit(RemovedThing::Template(name.to_owned()), deleted);
        Ok(Some(RemovalView::from(&removed)))
    })
}
