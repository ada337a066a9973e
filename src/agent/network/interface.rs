//! Network interfaces: addresses and routes, which are the same in every VM.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::protocol::network::{
    GATEWAY_V4, GATEWAY_V6, GUEST_V4, GUEST_V6, MTU, PREFIX_V4, PREFIX_V6,
};

/// The interface that leads to the network helper: a card, or a TUN interface of the same name.
pub const ETHERNET: &str = "eth0";

/// Gives the interface its addresses, brings it up and sends everything through it.
///
/// # Errors
/// The kernel's, such as that there is no interface of that name. A kernel without IPv6 is no error.
pub fn configure(name: &str) -> io::Result<()> {
    let control = InterfaceControl::open(AddressFamily::Inet)?;
    let mut request = request_for(name);
    request.ifr_ifru.ifru_mtu = MTU as libc::c_int;
    control.send(libc::SIOCSIFMTU, &request)?;
    request.ifr_ifru.ifru_addr = address_v4(GUEST_V4);
    control.send(libc::SIOCSIFADDR, &request)?;
    request.ifr_ifru.ifru_netmask = address_v4(netmask(PREFIX_V4));
    control.send(libc::SIOCSIFNETMASK, &request)?;
    let has_v6 = prepare_v6(name);
    bring_up(name)?;
    control.send(libc::SIOCADDRT, &default_route())?;
    if has_v6 {
        configure_v6(name)?;
    }
    Ok(())
}

/// Brings up an interface.
///
/// # Errors
/// The kernel's.
pub fn bring_up(name: &str) -> io::Result<()> {
    let mut request = request_for(name);
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    InterfaceControl::open(AddressFamily::Inet)?.send(libc::SIOCSIFFLAGS, &request)
}

/// Turns off what a line with two ends does not need, and waits for: the search for routers and for another owner of
/// the address. Returns whether the kernel has IPv6.
fn prepare_v6(name: &str) -> bool {
    let settings = format!("/proc/sys/net/ipv6/conf/{name}");
    ["accept_ra", "accept_dad", "dad_transmits"]
        .iter()
        .all(|setting| fs::write(format!("{settings}/{setting}"), "0").is_ok())
}

fn configure_v6(name: &str) -> io::Result<()> {
    let index = nix::net::if_::if_nametoindex(name)? as libc::c_int;
    let control = InterfaceControl::open(AddressFamily::Inet6)?;
    control.send(
        libc::SIOCSIFADDR,
        &libc::in6_ifreq {
            ifr6_addr: address_v6(GUEST_V6),
            ifr6_prefixlen: PREFIX_V6.into(),
            ifr6_ifindex: index,
        },
    )?;
    control.send(
        libc::SIOCADDRT,
        &RouteV6 {
            destination: address_v6(Ipv6Addr::UNSPECIFIED),
            source: address_v6(Ipv6Addr::UNSPECIFIED),
            gateway: address_v6(GATEWAY_V6),
            kind: 0,
            destination_length: 0,
            source_length: 0,
            metric: 1024,
            info: 0,
            flags: u32::from(libc::RTF_UP | libc::RTF_GATEWAY),
            interface: index,
        },
    )
}

/// The kernel's `struct in6_rtmsg`, whose fields the C library's crate does not make public.
#[repr(C)]
struct RouteV6 {
    destination: libc::in6_addr,
    source: libc::in6_addr,
    gateway: libc::in6_addr,
    kind: u32,
    destination_length: u16,
    source_length: u16,
    metric: u32,
    info: libc::c_ulong,
    flags: u32,
    interface: libc::c_int,
}

fn default_route() -> libc::rtentry {
    // SAFETY: zeros are valid for this structure of plain data.
    let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
    route.rt_dst = address_v4(Ipv4Addr::UNSPECIFIED);
    route.rt_genmask = address_v4(Ipv4Addr::UNSPECIFIED);
    route.rt_gateway = address_v4(GATEWAY_V4);
    route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
    route
}

/// A socket whose only use is to carry requests about interfaces.
struct InterfaceControl(OwnedFd);

impl InterfaceControl {
    fn open(family: AddressFamily) -> io::Result<InterfaceControl> {
        let socket = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        Ok(InterfaceControl(socket))
    }

    /// `request` is the structure of plain data that the kernel expects for this number.
    fn send<T>(&self, number: impl TryInto<libc::Ioctl>, request: &T) -> io::Result<()> {
        let number = number.try_into().map_err(|_| io::Error::from(Errno::EINVAL))?;
        // SAFETY: the kernel reads the structure that belongs to the number, and writes nothing.
        let result =
            unsafe { libc::ioctl(self.0.as_raw_fd(), number, std::ptr::from_ref(request)) };
        Errno::result(result)?;
        Ok(())
    }
}

/// A request about the interface of this name.
pub fn request_for(name: &str) -> libc::ifreq {
    // SAFETY: zeros are valid for this structure of plain data.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = from as libc::c_char;
    }
    request
}

fn address_v4(address: Ipv4Addr) -> libc::sockaddr {
    // SAFETY: both are structures of plain data of the same size.
    unsafe {
        std::mem::transmute(libc::sockaddr_in {
            sin_family: libc::AF_INET as libc::sa_family_t,
            sin_port: 0,
            sin_addr: libc::in_addr { s_addr: u32::from(address).to_be() },
            sin_zero: [0; 8],
        })
    }
}

fn address_v6(address: Ipv6Addr) -> libc::in6_addr {
    libc::in6_addr { s6_addr: address.octets() }
}

fn netmask(prefix: u8) -> Ipv4Addr {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0).into()
}
