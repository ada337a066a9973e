//! What a VM must do on every backend.
//!
//! A case is a function that takes a [`Bench`]; [`suite!`] makes it a test for every backend. A new backend is one more
//! line there. A case that makes no sense on a backend returns early and prints why: a process of the host has no
//! kernel that could crash.
//!
//! Starting an emulated machine takes seconds, so a case makes several observations of one VM.

#![expect(clippy::disallowed_methods, reason = "a guest's clock is compared with the host's")]

#[path = "../support/mod.rs"]
mod support;

mod bench;
mod commands;
mod copies;
mod debian;
mod doctor;
mod escape;
mod floods;
mod hardening;
mod hostile;
mod imported;
mod life;
mod machine;
mod mounted_copies;
mod network;
mod network_denials;
mod network_life;
mod network_load;
mod network_names;
mod network_notes;
mod packages;
mod pool;
mod pulled;
mod secrets;
mod sessions;
mod streams;
mod templates;
mod terminal;
mod timeouts;

use bench::Bench;

/// Makes a module for each backend with a test for each case. The tests get the attributes of their backend.
macro_rules! suite {
    (backends: { $($(#[$attribute:meta])* $backend:ident = $make:expr;)* } cases: $cases:tt) => {$(
        mod $backend {
            suite!(@cases [$(#[$attribute])*] $make, $cases);
        }
    )*};
    (@cases $attributes:tt $make:expr, { $($room:ident :: $case:ident;)* }) => {$(
        suite!(@case $attributes $make, $room, $case);
    )*};
    (@case [$($attribute:tt)*] $make:expr, $room:ident, $case:ident) => {
        #[test]
        $($attribute)*
        fn $case() {
            crate::$room::$case(&$make);
        }
    };
}

suite! {
    backends: {
        mock = crate::Bench::mock();
        qemu = crate::Bench::qemu();
        #[ignore = "needs root and KVM; make test-firecracker runs it"]
        firecracker_jailed = crate::Bench::firecracker(true);
    }
    cases: {
        commands::commands_get_what_they_are_given;
        commands::ends_of_commands_come_back;
        copies::a_directory_is_copied_in_and_results_are_copied_out;
        copies::trees_go_in_and_come_out_as_they_were;
        doctor::doctor_knows_what_vms_run_on;
        escape::a_vmm_that_was_taken_over_cannot_mislead_commands;
        escape::every_vmm_is_a_user_of_its_own;
        floods::a_console_that_is_flooded_stays_bounded;
        floods::a_guest_waits_while_the_disk_of_the_host_is_full;
        floods::a_stopped_reader_costs_no_memory_and_delays_no_other_command;
        hardening::a_disk_is_raw_whatever_is_in_it;
        hardening::the_vmm_is_confined_and_given_nothing;
        hardening::the_image_stays_as_it_was_built;
        hostile::an_agent_that_lies_at_its_setup_does_not_start_a_vm;
        hostile::no_lie_of_an_agent_is_believed_or_waited_for;
        life::a_guest_that_is_not_run_while_it_measures_its_timer_boots_again;
        life::a_vm_goes_through_its_life;
        life::a_vm_that_powers_itself_off_is_stopped;
        life::a_vmm_that_hangs_at_its_start_is_waited_for;
        life::a_vmm_that_is_killed_leaves_a_vm_that_can_start_again;
        life::more_time_reaches_the_guest;
        life::run_does_it_all_at_once;
        machine::a_fork_bomb_does_not_harm_the_host;
        machine::memory_that_runs_out_costs_the_command_only;
        machine::orphans_are_reaped;
        machine::the_guest_knows_its_name_and_the_time;
        mounted_copies::a_large_tree_is_mounted_as_it_was;
        mounted_copies::a_mounted_tree_can_be_changed;
        mounted_copies::a_vm_of_the_pool_mounts_what_was_written_after_its_start;
        mounted_copies::an_interrupted_copy_leaves_no_vm;
        mounted_copies::what_is_there_stays_and_is_merged_with;
        network::a_guest_reaches_what_is_allowed_and_nothing_else;
        network::a_guest_that_misuses_its_interface_keeps_its_agent;
        network::a_port_that_cannot_be_had_is_an_error_with_a_remedy;
        network::a_vm_that_boots_has_its_network;
        network::an_image_without_drivers_is_an_error_with_a_remedy;
        network::published_ports_lead_into_the_guest_after_every_start;
        network_denials::no_special_address_is_reached_in_any_encoding;
        network_names::a_guest_looks_up_names_as_its_rules_say;
        network_load::copies_of_a_template_hear_only_their_own_servers;
        network_load::fifty_clients_of_a_guest_get_what_they_sent;
        network_life::a_helper_is_confined_and_ends_with_its_vm;
        network_life::a_lost_helper_is_replaced_by_the_next_command;
        network_life::a_rebuilt_registry_knows_the_helper;
        network_notes::denials_are_told_to_attached_commands_and_logged;
        pool::a_network_waits_with_its_vm;
        pool::a_race_for_the_pool_has_as_many_winners_as_vms;
        pool::a_waiting_vm_ends_by_itself_and_a_kept_one_lives_on;
        pool::taken_vms_are_machines_of_their_own;
        secrets::a_secret_is_seen_by_its_command_and_found_nowhere;
        sessions::a_killed_client_leaves_nothing_for_the_next;
        sessions::several_commands_run_at_once;
        sessions::a_command_ends_with_its_vm;
        sessions::the_end_of_a_job_reaches_the_guest;
        sessions::what_killed_a_vmm_is_named;
        streams::input_ends_when_it_ends;
        streams::streams_are_byte_exact;
        templates::a_template_with_a_changed_byte_is_rebuilt;
        templates::a_cold_start_has_nothing_to_do_with_templates;
        templates::a_copy_keeps_its_disk_when_it_is_stopped;
        templates::a_template_can_be_deleted_while_copies_run;
        templates::a_template_that_has_lain_for_a_while_goes_on_in_the_present;
        templates::copies_are_machines_of_their_own;
        templates::starts_that_race_make_one_template;
        terminal::a_shell_has_a_terminal_and_restores_it;
        timeouts::a_timeout_kills_the_tree_and_keeps_the_output;
    }
}

// Without a jailer, mayfly starts, confines, talks to and stops Firecracker differently. Cases that only depend on the
// guest, or on what mayfly does before there is a VMM, are not repeated.
suite! {
    backends: {
        #[ignore = "needs KVM; make test-firecracker runs it"]
        firecracker_direct = crate::Bench::firecracker(false);
    }
    cases: {
        doctor::doctor_knows_what_vms_run_on;
        escape::a_vmm_that_was_taken_over_cannot_mislead_commands;
        floods::a_console_that_is_flooded_stays_bounded;
        hardening::a_disk_is_raw_whatever_is_in_it;
        hardening::the_image_stays_as_it_was_built;
        hardening::the_vmm_is_confined_and_given_nothing;
        life::a_vm_goes_through_its_life;
        life::a_vm_that_powers_itself_off_is_stopped;
        life::a_vmm_that_hangs_at_its_start_is_waited_for;
        life::a_vmm_that_is_killed_leaves_a_vm_that_can_start_again;
        life::run_does_it_all_at_once;
        mounted_copies::a_large_tree_is_mounted_as_it_was;
        network::a_guest_reaches_what_is_allowed_and_nothing_else;
        network::published_ports_lead_into_the_guest_after_every_start;
        network_life::a_lost_helper_is_replaced_by_the_next_command;
        secrets::a_secret_is_seen_by_its_command_and_found_nowhere;
        sessions::a_command_ends_with_its_vm;
        templates::a_cold_start_has_nothing_to_do_with_templates;
        templates::starts_that_race_make_one_template;
    }
}
