//! `mayfly port`.

use anyhow::Result;
use clap_complete::ArgValueCompleter;

use super::AppContext;
use super::completions::candidates;
use crate::lifecycle;
use crate::model::{GuestPort, NetworkState, VmRef};
use crate::output::{PortView, host_address, port_line};

/// Show the published ports of a running VM
///
/// With PORT, only the host's addresses that lead to that port of the guest are printed. If there is none, the
/// exit code is 3.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mayfly port web
  curl \"http://$(mayfly port web 80)/\"
  mayfly port dns 53/udp")]
pub struct Args {
    /// Name or id of a VM; the beginning of an id is enough
    #[arg(value_name = "VM", add = ArgValueCompleter::new(candidates::running_vms))]
    vm: VmRef,

    /// Port of the guest, with /udp after it for UDP
    #[arg(value_name = "PORT")]
    port: Option<GuestPort>,
}

pub fn serve(app: &AppContext, args: Args) -> Result<u8> {
    let manager = app.open_to_read()?;
    let (record, ports) = lifecycle::published_ports(&manager, &args.vm, args.port)?;
    if record.network.state == NetworkState::Lost {
        let name = record.manifest.display_name();
        app.printer.note(&format!(
            "mayfly: VM {name} has lost its network: the next exec, shell or cp starts its helper again"
        ));
    }
    if app.printer.style.json {
        app.printer.json(&ports.iter().map(PortView::from).collect::<Vec<_>>())?;
        return Ok(0);
    }
    if ports.is_empty() {
        app.printer
            .note(&format!("mayfly: VM {} publishes no port", record.manifest.display_name()));
    }
    let line = if args.port.is_some() { host_address } else { port_line };
    ports.iter().try_for_each(|port| app.printer.data(&line(port)))?;
    Ok(0)
}
