//! Random histories of a VM: commands killed between any two steps, VMMs that die, reboots.

use proptest::prelude::*;

use super::reconcile::{RecordRepair, repair};
use super::record::reason;
use super::state_tests::{now, process, record};
use super::{
    BootId, ClockReading, NetworkProcess, ProcessId, ProcessLiveness, Refusal, VmInstance,
    VmManifest, VmPhase, VmRecord,
};

/// One VM on one host, and commands that go through the protocol of `lifecycle` step by
/// step, until they end or are killed.
#[derive(Debug)]
struct World {
    record: Option<VmRecord>,
    /// A launcher that waits; it ends with its command.
    gated: Option<i32>,
    vmm: Option<i32>,
    /// The network helper. It may outlive its VMM for a moment, and be killed at any time.
    helper: Option<i32>,
    boot: u32,
    pids: i32,
    /// Steps until the command is killed.
    steps: usize,
    /// Seconds, on both clocks.
    time: f64,
    /// When the guest powers off by itself, once it knows.
    power_off: Option<f64>,
    /// The end of the VM that a user was last told.
    promise: f64,
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Start,
    Stop,
    Remove,
    Reap,
    /// Until so many seconds from now.
    Extend(u64),
    /// Leaves a started VM to the pool.
    Offer,
    /// Takes a VM that waits in the pool, for so many seconds.
    Take(u64),
    /// Starts a lost helper again.
    Exec,
    VmmDies,
    HelperDies,
    Reboot,
    TimePasses(u64),
}

/// The command was killed, or refused to go on.
struct Interrupted;

impl World {
    fn new() -> World {
        let record = record(VmPhase::Created);
        World {
            promise: record.expiry.expires_at,
            record: Some(record),
            gated: None,
            vmm: None,
            helper: None,
            boot: 0,
            pids: 1,
            steps: 0,
            time: 0.0,
            power_off: None,
        }
    }

    fn boot_id(&self) -> BootId {
        BootId(self.boot.to_string())
    }

    /// One system call's worth of progress. After each, everything must be consistent.
    fn step(&mut self) -> Result<(), Interrupted> {
        if let Some(vmm) = self.vmm {
            let known = self.record.as_ref().and_then(|record| record.state.instance());
            let known = known.map(|known| (known.process.pid, known.process.boot_id.clone()));
            assert_eq!(known, Some((vmm, self.boot_id())), "a VMM without a record");
        }
        if self.helper.is_some() {
            assert_eq!(self.helper_on_record(), self.helper, "a helper without a record");
        }
        if let Some(record) = &self.record {
            assert!(record.expiry.expires_at >= self.promise, "less time than was promised");
            let at_rest = record.state.name() != "pooled" || record.manifest.owner.is_none();
            assert!(at_rest, "a pooled VM with an owner");
            let runs = self.vmm.is_some() && matches!(record.state, VmPhase::Started { .. });
            let end = record.expiry.expires_at;
            assert!(!runs || self.power_off.unwrap() >= end, "a guest that ends too early");
        }
        self.steps = self.steps.checked_sub(1).ok_or(Interrupted)?;
        Ok(())
    }

    fn now(&self) -> ClockReading {
        ClockReading { boot_id: self.boot_id(), ..now(self.time) }
    }

    fn change(
        &mut self,
        change: impl FnOnce(&mut VmRecord) -> Result<(), Refusal>,
    ) -> Result<(), Interrupted> {
        self.step()?;
        change(self.record.as_mut().ok_or(Interrupted)?).map_err(|_| Interrupted)
    }

    fn fate(&self) -> Option<ProcessLiveness> {
        let known = self.record.as_ref()?.state.instance()?;
        Some(match &known.process {
            process if process.boot_id != self.boot_id() => ProcessLiveness::OtherBoot,
            process if [self.vmm, self.gated].contains(&Some(process.pid)) => {
                ProcessLiveness::Alive
            }
            _ => ProcessLiveness::Dead,
        })
    }

    fn helper_on_record(&self) -> Option<i32> {
        let known = self.record.as_ref()?.state.instance()?.network.as_ref()?;
        (known.process.boot_id == self.boot_id()).then_some(known.process.pid)
    }

    /// A helper waits, is recorded and then serves. If the command is killed before, the helper ends.
    fn attach(&mut self) -> Result<(), Interrupted> {
        self.pids += 1;
        let pid = self.pids;
        let process = ProcessId { boot_id: self.boot_id(), ..process(pid) };
        self.step()?;
        self.change(|record| record.networked(NetworkProcess { process, published: Vec::new() }))?;
        self.step()?;
        assert_eq!(self.helper, None, "two helpers on one line");
        self.helper = Some(pid);
        self.step()
    }

    fn exec(&mut self) -> Result<(), Interrupted> {
        let is_started = self.record.as_ref().is_some_and(|record| record.running().is_ok());
        if is_started && self.helper.is_none() { self.attach() } else { Ok(()) }
    }

    fn kill(&mut self) -> Result<(), Interrupted> {
        self.step()?;
        if self.fate() == Some(ProcessLiveness::Alive) {
            (self.vmm, self.gated) = (None, None);
        }
        self.step()?;
        if self.helper_on_record().is_some_and(|known| self.helper == Some(known)) {
            self.helper = None;
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<(), Interrupted> {
        let Some(record) = &self.record else { return Err(Interrupted) };
        match repair(&record.state, self.fate()) {
            RecordRepair::Keep => Ok(()),
            RecordRepair::Stop(error) => {
                self.kill()?;
                self.change(|record| record.finish_stop(error.map(str::to_owned)))
            }
            RecordRepair::RollBack | RecordRepair::Remove => self.remove(),
        }
    }

    fn remove(&mut self) -> Result<(), Interrupted> {
        self.change(|record| {
            record.begin_remove(reason::EXPLICIT);
            Ok(())
        })?;
        self.kill()?;
        self.step()?;
        self.record = None;
        Err(Interrupted)
    }

    fn start(&mut self) -> Result<(), Interrupted> {
        self.change(VmRecord::begin_start)?;
        self.step()?;
        self.pids += 1;
        self.gated = Some(self.pids);
        let process = ProcessId { boot_id: self.boot_id(), ..process(self.pids) };
        self.change(|record| record.launched(VmInstance::new(process)))?;
        self.step()?;
        assert_eq!(self.vmm, None, "two VMMs on one disk");
        self.vmm = self.gated.take();
        self.power_off = None;
        self.step()?;
        self.attach()?;
        self.power_off = self.record.as_ref().map(|record| record.expiry.expires_at);
        self.change(VmRecord::finish_start)
    }

    /// The taker's life begins with the take, the guest learns of it after that.
    fn take(&mut self, seconds: u64) -> Result<(), Interrupted> {
        let now = self.now();
        self.step()?;
        let record = self.record.as_mut().ok_or(Interrupted)?;
        let wanted = VmManifest { ttl_seconds: seconds, ..record.manifest.clone() };
        record.take(&wanted, &now).map_err(|_| Interrupted)?;
        self.promise = record.expiry.expires_at;
        self.step()?;
        self.power_off = self.record.as_ref().map(|record| record.expiry.expires_at);
        self.change(VmRecord::finish_start)
    }

    fn extend(&mut self, seconds: u64) -> Result<(), Interrupted> {
        let now = self.now();
        let mut extended = self.record.clone().ok_or(Interrupted)?;
        extended.extend(&now, seconds).map_err(|_| Interrupted)?;
        if self.vmm.is_some() {
            self.step()?;
            self.power_off = Some(self.time + extended.expiry.remaining(&now));
        }
        self.change(|record| record.extend(&now, seconds).map(drop))?;
        self.step()?;
        self.promise = self.promise.max(self.time + seconds as f64);
        Ok(())
    }

    fn serve(&mut self, event: Event) -> Result<(), Interrupted> {
        self.settle()?;
        if self.record.as_ref().is_some_and(|record| record.has_expired(&self.now())) {
            assert!(self.time >= self.promise, "deleted before its time");
            return self.remove();
        }
        match event {
            Event::Start => self.start(),
            Event::Stop => {
                self.change(|record| record.begin_stop().map(drop))?;
                self.kill()?;
                self.change(|record| record.finish_stop(None))
            }
            Event::Remove => self.remove(),
            Event::Extend(seconds) => self.extend(seconds),
            Event::Exec => self.exec(),
            Event::Offer => self.change(VmRecord::offer),
            Event::Take(seconds) => self.take(seconds),
            Event::Reap
            | Event::VmmDies
            | Event::HelperDies
            | Event::Reboot
            | Event::TimePasses(_) => Ok(()),
        }
    }

    fn happens(&mut self, event: Event, steps: usize) {
        match event {
            Event::VmmDies => self.vmm = None,
            Event::HelperDies => self.helper = None,
            Event::Reboot => {
                (self.vmm, self.helper) = (None, None);
                self.boot += 1;
            }
            Event::TimePasses(seconds) => {
                self.time += seconds as f64;
                if self.power_off.is_some_and(|end| end <= self.time) {
                    self.vmm = None;
                }
            }
            _ => {
                self.steps = steps;
                let _ = self.serve(event);
            }
        }
        // The command has ended, so a launcher that was not released reads the end of its pipe.
        self.gated = None;
    }
}

fn event() -> impl Strategy<Value = Event> {
    use Event::{
        Exec, Extend, HelperDies, Offer, Reap, Reboot, Remove, Start, Stop, Take, TimePasses,
        VmmDies,
    };
    prop_oneof![
        3 => Just(Exec), 2 => Just(HelperDies),
        6 => Just(Start), 4 => Just(Stop), 1 => Just(Remove), 2 => Just(Reap), 2 => Just(VmmDies),
        3 => Just(Offer), 3 => (1..120u64).prop_map(Take), 1 => Just(Reboot), 4 => (1..120u64).prop_map(Extend), 3 => (0..40u64).prop_map(TimePasses),
    ]
}

proptest! {
    #[test]
    fn a_command_repairs_what_commands_killed_at_any_step_left(
        life in prop::collection::vec((event(), 0..12usize), 0..40)
    ) {
        let mut world = World::new();
        for (event, steps) in life {
            world.happens(event, steps);
        }
        // This command is not killed.
        world.happens(Event::Reap, usize::MAX);
        let mended = world.record.clone();
        let state = mended.as_ref().map(|record| record.state.name());
        let started = state == Some("started");
        prop_assert_eq!(world.vmm.is_some(), started || state == Some("pooled"));
        prop_assert!(world.vmm.is_some() || world.helper.is_none(), "a helper outlives its VM");
        world.happens(Event::Exec, usize::MAX);
        prop_assert!(world.helper.is_some() == started || state == Some("pooled"));
        let mended = world.record.clone();
        if let Some(record) = &mended {
            prop_assert!(matches!(record.state.name(), "created" | "started" | "stopped" | "pooled"));
        }
        world.happens(Event::Reap, usize::MAX);
        prop_assert_eq!(world.record, mended);
    }

    #[test]
    fn an_extension_never_shortens_a_life_and_the_ttl_agrees_with_its_end(
        life in prop::collection::vec((0.0..40f64, 1..200u64, 0.0..1e9f64), 1..20)
    ) {
        let mut record = record(VmPhase::Created);
        let (mut time, created) = (0.0, record.manifest.created_at);
        for (passes, seconds, jump) in life {
            time += passes;
            // The wall clock is set at random; within a boot it does not count.
            let now = ClockReading { unix: jump, ..now(time) };
            let before = record.clone();
            let moved = record.extend(&now, seconds).unwrap();
            let (was, is) = (before.expiry.remaining(&now), record.expiry.remaining(&now));
            prop_assert!(is >= was && is >= seconds as f64);
            prop_assert!(moved == 0 || is < seconds as f64 + 1.0);
            prop_assert_eq!(moved == 0, record == before);
            let expected_end = created + record.manifest.ttl_seconds as f64;
            prop_assert_eq!(record.expiry.expires_at, expected_end);
            let again = record.clone().extend(&now, seconds).unwrap();
            prop_assert_eq!(again, 0);
        }
    }
}
