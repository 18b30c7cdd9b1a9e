//! What a run gave.
//!
//! Owns: latency percentiles, error counts, their JSON, tables for people, and the comparison in Markdown.
//! Must not know: how the load was made.

use super::machine::Machine;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// Longer is recorded as this.
const LONGEST: Duration = Duration::from_mins(1);

/// Counts successes, with their latency, and errors by code.
#[derive(Debug, Clone)]
pub struct Recorder {
    micros: Histogram<u64>,
    errors: BTreeMap<String, u64>,
}

impl Default for Recorder {
    fn default() -> Self {
        let longest = LONGEST.as_micros() as u64;
        let micros = Histogram::new_with_bounds(1, longest, 3).expect("1 µs to 60 s at 3 digits is a valid range");
        Self { micros, errors: BTreeMap::new() }
    }
}

impl Recorder {
    /// A success.
    pub fn success(&mut self, latency: Duration) {
        self.micros.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1));
    }

    /// A failed attempt.
    pub fn error(&mut self, code: &str) {
        match self.errors.get_mut(code) {
            Some(count) => *count += 1,
            None => drop(self.errors.insert(code.to_owned(), 1)),
        }
    }

    /// Successes so far.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.micros.len()
    }

    /// Failed attempts so far, by code.
    #[must_use]
    pub fn errors(&self) -> &BTreeMap<String, u64> {
        &self.errors
    }

    /// The percentiles.
    #[must_use]
    pub fn latencies(&self) -> Latencies {
        let at = |quantile| self.micros.value_at_quantile(quantile) as f64 / 1000.0;
        if self.micros.is_empty() {
            return Latencies::default();
        }
        Latencies { p50_ms: at(0.5), p95_ms: at(0.95), p99_ms: at(0.99), max_ms: self.micros.max() as f64 / 1000.0 }
    }
}

/// Latency percentiles in milliseconds; zeros when nothing succeeded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Latencies {
    /// Half are faster.
    pub p50_ms: f64,
    /// 95 % are faster.
    pub p95_ms: f64,
    /// 99 % are faster.
    pub p99_ms: f64,
    /// The slowest.
    pub max_ms: f64,
}

/// The result of one closed-loop run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SendReport {
    /// `messenger` or `etcd`.
    pub system: String,
    /// `rest`, `socket` or `grpc`.
    pub transport: String,
    /// Closed-loop senders.
    pub clients: usize,
    /// Of each message or value.
    pub payload_bytes: usize,
    /// The measured window, without the warm-up.
    pub seconds: f64,
    /// Acknowledged within the window.
    pub acked: u64,
    /// The same by the second.
    pub acked_per_s: f64,
    /// From the start of the first try to the success.
    #[serde(flatten)]
    pub latencies: Latencies,
    /// Failed attempts within the window, by code.
    pub errors: BTreeMap<String, u64>,
    /// Processor time the load itself took within the window, in seconds; `None` where the system does not tell.
    pub load_cpu_s: Option<f64>,
}

impl SendReport {
    /// What a run recorded.
    #[must_use]
    pub fn new(system: &str, transport: &str, clients: usize, payload_bytes: usize, run: &super::load::Run) -> Self {
        let seconds = run.measured.as_secs_f64();
        Self {
            system: system.into(),
            transport: transport.into(),
            clients,
            payload_bytes,
            seconds: round(seconds, 3),
            acked: run.recorder.acked(),
            acked_per_s: round(run.recorder.acked() as f64 / seconds.max(f64::EPSILON), 1),
            latencies: run.recorder.latencies(),
            errors: run.recorder.errors().clone(),
            load_cpu_s: run.load_cpu.map(|cpu| round(cpu.as_secs_f64(), 3)),
        }
    }
}

fn round(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

/// Runs as a table for people.
#[must_use]
pub fn table(reports: &[SendReport]) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{:<10} {:<7} {:>7} {:>10} {:>9} {:>9} {:>9} {:>9}  errors",
        "system", "via", "clients", "acked/s", "p50 ms", "p95 ms", "p99 ms", "max ms"
    );
    for row in reports {
        let Latencies { p50_ms, p95_ms, p99_ms, max_ms } = row.latencies;
        let _ = writeln!(
            text,
            "{:<10} {:<7} {:>7} {:>10.0} {:>9.2} {:>9.2} {:>9.2} {:>9.2}  {}",
            row.system,
            row.transport,
            row.clients,
            row.acked_per_s,
            p50_ms,
            p95_ms,
            p99_ms,
            max_ms,
            errors(row)
        );
    }
    text
}

fn errors(row: &SendReport) -> String {
    if row.errors.is_empty() {
        return "none".into();
    }
    row.errors.iter().map(|(code, count)| format!("{code} {count}")).collect::<Vec<_>>().join(", ")
}

/// The median run of each kind, by acked/s.
fn medians(reports: &[SendReport]) -> BTreeMap<(usize, u8, String, String), (SendReport, usize)> {
    let mut kinds: BTreeMap<_, Vec<SendReport>> = BTreeMap::new();
    for row in reports {
        // etcd first, then REST, then the socket.
        let rank = u8::from(row.system != "etcd") + u8::from(row.transport == "socket");
        kinds.entry((row.clients, rank, row.system.clone(), row.transport.clone())).or_default().push(row.clone());
    }
    let median = |mut rows: Vec<SendReport>| {
        rows.sort_by(|a, b| a.acked_per_s.total_cmp(&b.acked_per_s));
        let count = rows.len();
        (rows.swap_remove(count / 2), count)
    };
    kinds.into_iter().map(|(kind, rows)| (kind, median(rows))).collect()
}

/// Runs of several systems side by side, as Markdown: the median of each kind's rounds, with its ratio to etcd.
#[must_use]
pub fn compare(reports: &[SendReport], machine: &Machine) -> String {
    let medians = medians(reports);
    let mut text = String::new();
    let _ = writeln!(text, "Machine: {machine}\n");
    let _ = writeln!(
        text,
        "| clients | system | rounds | acked/s | to etcd | p50 ms | p95 ms | p99 ms | load CPU | errors |"
    );
    let _ = writeln!(text, "|--:|:--|--:|--:|--:|--:|--:|--:|--:|:--|");
    for ((clients, _, system, transport), (row, rounds)) in &medians {
        let etcd = medians.iter().find(|((n, _, system, _), _)| n == clients && system == "etcd");
        let ratio = match etcd {
            Some((_, (base, _))) if base.acked_per_s > 0.0 => format!("{:.2}", row.acked_per_s / base.acked_per_s),
            _ => "–".into(),
        };
        let Latencies { p50_ms, p95_ms, p99_ms, .. } = row.latencies;
        let cpu =
            row.load_cpu_s.map_or("–".into(), |cpu| format!("{:.0} %", 100.0 * cpu / row.seconds.max(f64::EPSILON)));
        let _ = writeln!(
            text,
            "| {clients} | {system} {transport} | {rounds} | {:.0} | {ratio} | {p50_ms:.1} | {p95_ms:.1} | {p99_ms:.1} | {cpu} | {} |",
            row.acked_per_s,
            errors(row)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(system: &str, transport: &str, clients: usize, acked: u32) -> SendReport {
        SendReport {
            system: system.into(),
            transport: transport.into(),
            clients,
            payload_bytes: 256,
            seconds: 10.0,
            acked: acked.into(),
            acked_per_s: f64::from(acked) / 10.0,
            latencies: Latencies { p50_ms: 1.0, p95_ms: 2.0, p99_ms: 3.0, max_ms: 4.0 },
            errors: BTreeMap::new(),
            load_cpu_s: Some(2.5),
        }
    }

    #[test]
    fn percentiles_are_of_what_was_recorded() {
        let mut recorder = Recorder::default();
        assert_eq!(recorder.latencies(), Latencies::default());
        for ms in 1..=100 {
            recorder.success(Duration::from_millis(ms));
        }
        let Latencies { p50_ms, p95_ms, p99_ms, max_ms } = recorder.latencies();
        for (measured, expected) in [(p50_ms, 50.0), (p95_ms, 95.0), (p99_ms, 99.0), (max_ms, 100.0)] {
            assert!((measured - expected).abs() / expected < 0.002, "{measured} for {expected}");
        }
        recorder.success(Duration::from_secs(1000));
        assert_eq!(recorder.acked(), 101);
        assert!((recorder.latencies().max_ms - 60_000.0).abs() < 60.0);
    }

    #[test]
    fn errors_are_counted_by_code() {
        let mut recorder = Recorder::default();
        recorder.error("unavailable");
        recorder.error("unavailable");
        recorder.error("timed_out");
        assert_eq!(recorder.errors()["unavailable"], 2);
        assert_eq!(
            errors(&SendReport { errors: recorder.errors().clone(), ..row("messenger", "rest", 1, 10) }),
            "timed_out 1, unavailable 2"
        );
    }

    #[test]
    fn a_report_survives_json() {
        let report = row("messenger", "rest", 64, 12_345);
        let text = serde_json::to_string(&report).unwrap();
        assert!(text.contains(r#""p99_ms":3.0"#), "{text}");
        assert_eq!(serde_json::from_str::<SendReport>(&text).unwrap(), report);
    }

    #[test]
    fn the_comparison_takes_medians_and_ratios_of_equal_clients() {
        let rows = [
            row("messenger", "socket", 64, 90_000),
            row("messenger", "rest", 64, 60_000),
            row("etcd", "grpc", 64, 30_000),
            row("etcd", "grpc", 64, 99_990),
            row("etcd", "grpc", 64, 1000),
            row("messenger", "rest", 16, 100),
        ];
        let machine = Machine { cpu: "x".into(), cores: 2, memory_gib: 4.0, kernel: "y".into() };
        let text = compare(&rows, &machine);
        let lines: Vec<_> = text.lines().skip(4).collect();
        assert!(lines[0].starts_with("| 16 | messenger rest | 1 | 10 | – |"), "{text}");
        assert!(lines[1].starts_with("| 64 | etcd grpc | 3 | 3000 | 1.00 |"), "{text}");
        assert!(lines[2].starts_with("| 64 | messenger rest | 1 | 6000 | 2.00 |"), "{text}");
        assert!(lines[3].starts_with("| 64 | messenger socket | 1 | 9000 | 3.00 |"), "{text}");
        assert!(lines[3].contains("| 25 % |"), "{text}");
    }
}
