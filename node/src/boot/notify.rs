//! Telling the service manager how the node is.
//!
//! Owns: the datagrams of `sd_notify(3)` to the socket that systemd names, and the watchdog's pulse.
//! Must not know: what makes a node ready.
//! Invariants: nobody is waited for: what can't be sent now is sent with the next pulse, and the node lives on.

use crate::readiness::{Phase, Readiness};
use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// Between two pulses at most, whatever the watchdog allows; also between two looks at what a starting node waits for.
const PULSE_MAX: Duration = Duration::from_secs(1);

/// The way to the service manager.
pub(super) struct Notifier {
    socket: UnixDatagram,
    to: SocketAddr,
    watchdog: Option<Duration>,
}

/// The socket's address: a path, or a name without a place in the file system.
fn address(name: &OsStr) -> Option<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok(),
        [b'/', ..] => SocketAddr::from_pathname(name).ok(),
        _ => None,
    }
}

/// How long the watchdog waits for a pulse; `None` if there is none, or it is another process's.
fn watchdog(limit: Option<&OsStr>, of: Option<&OsStr>, this: u32) -> Option<Duration> {
    let number = |text: &OsStr| text.to_str()?.parse::<u64>().ok();
    let other = of.is_some_and(|of| number(of) != Some(this.into()));
    let limit = Duration::from_micros(number(limit?)?);
    (!other && !limit.is_zero()).then_some(limit)
}

impl Notifier {
    /// The way that the environment names, if it does.
    pub(super) fn from_env() -> Option<Self> {
        let to = address(&std::env::var_os("NOTIFY_SOCKET")?)?;
        let socket = UnixDatagram::unbound().ok()?;
        socket.set_nonblocking(true).ok()?;
        let (limit, of) = (std::env::var_os("WATCHDOG_USEC"), std::env::var_os("WATCHDOG_PID"));
        let watchdog = watchdog(limit.as_deref(), of.as_deref(), std::process::id());
        Some(Self { socket, to, watchdog })
    }

    /// Whether the socket took it: it is full where nobody reads.
    fn say(&self, lines: &str) -> bool {
        self.socket.send_to_addr(lines.as_bytes(), &self.to).is_ok()
    }

    /// Says so whenever the node is ready, waits for something else, or is on its way out, and that it lives.
    pub(super) async fn follow(self, readiness: Readiness) {
        let mut phase = readiness.subscribe();
        phase.mark_changed();
        let mut pulse = interval(self.watchdog.map_or(PULSE_MAX, |limit| PULSE_MAX.min(limit / 3)));
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut said = None;
        loop {
            let beats = tokio::select! {
                _ = pulse.tick() => self.watchdog.is_some(),
                changed = phase.changed() => match changed {
                    Ok(()) => false,
                    Err(_) => return,
                },
            };
            let (now, why_not) = (*phase.borrow_and_update(), readiness.why_not());
            if said != Some((now, why_not)) && self.say(&lines(now, why_not)) {
                said = Some((now, why_not));
            }
            // After the news, so that pulses don't fill the socket in its stead.
            if beats {
                self.say("WATCHDOG=1");
            }
        }
    }
}

fn lines(phase: Phase, why_not: Option<&str>) -> String {
    let status = why_not.unwrap_or("ready");
    match phase {
        Phase::Starting => format!("STATUS=starting: {status}"),
        Phase::Ready => format!("READY=1\nSTATUS={status}"),
        Phase::Draining => format!("STOPPING=1\nSTATUS={status}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watchdog_is_served_if_it_is_this_process_s() {
        let ask = |limit: &str, of: Option<&str>| watchdog(Some(limit.as_ref()), of.map(OsStr::new), 7);
        assert_eq!(ask("3000000", None), Some(Duration::from_secs(3)));
        assert_eq!(ask("3000000", Some("7")), Some(Duration::from_secs(3)));
        for (limit, of) in [("3000000", Some("8")), ("3000000", Some("x")), ("0", None), ("soon", None)] {
            assert_eq!(ask(limit, of), None, "{limit} {of:?}");
        }
        assert_eq!(watchdog(None, None, 7), None);
    }

    #[test]
    fn sockets_are_paths_or_names() {
        assert!(address("/run/notify".as_ref()).is_some_and(|at| at.as_pathname().is_some()));
        assert!(address("@notify".as_ref()).is_some_and(|at| at.as_abstract_name() == Some(b"notify".as_slice())));
        for name in ["", "vsock:2:9999", "run/notify"] {
            assert!(address(name.as_ref()).is_none(), "{name}");
        }
    }
}
