//! The table and the JSON file.

use std::fmt::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::floor::Floor;
use crate::measure::Installs;
use crate::server::Kind;
use crate::unpack::Unpacking;
use crate::world::target;

/// All that was measured.
pub struct Report {
    /// The kinds of sources, each in its turn.
    pub sources: Vec<Measured>,
    /// One large archive.
    pub unpacking: Unpacking,
}

/// What was measured with sources of one kind.
pub struct Measured {
    kind: Kind,
    /// By their ratios.
    rounds: Vec<Round>,
    installs: Installs,
}

/// One measurement of time and floor.
pub struct Round {
    /// From apply until all were Ready.
    pub time: Duration,
    /// Without a controller.
    pub floor: Floor,
}

impl Round {
    fn ratio(&self) -> f64 {
        self.time.as_secs_f64() / self.floor.total().as_secs_f64()
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [time, floor] = [self.time, self.floor.total()].map(seconds);
        write!(f, "{time}, floor {floor}: {:.2}×", self.ratio())
    }
}

impl Report {
    /// What was measured about the large archive, for people.
    pub fn unpacking_table(&self) -> String {
        let mut table = String::new();
        let unpacking = &self.unpacking;
        let mut row = |name: &str, value: String, target: &str| write_row(&mut table, name, &value, target);
        let mib = |bytes: u64| bytes >> 20;
        let archive = format!("{} MiB packed to {} MiB: ", mib(unpacking.unpacked), mib(unpacking.packed));
        row(&format!("{archive}archive module"), seconds(unpacking.ours), "");
        row(&format!("{archive}tar xzf"), seconds(unpacking.tar), "");
        row("speed in relation to tar xzf", format!("{:.2}×", unpacking.ratio()), "≥ 0.9×");
        row("its peak memory", format!("{:.1} MiB", unpacking.peak_mib), "constant");
        row("its peak memory for a tenth of the archive", format!("{:.1} MiB", unpacking.small_peak_mib), "");
        table
    }

    /// Fails if a target is missed that no slow machine explains.
    pub fn judge(&self) -> anyhow::Result<()> {
        let missed: Vec<_> = self.sources.iter().flat_map(Measured::missed).collect();
        ensure!(missed.is_empty(), "{}", missed.join("; "));
        Ok(())
    }

    /// Writes the JSON file; its path.
    pub fn write(&self) -> anyhow::Result<PathBuf> {
        let path = target().join("bench/install.json");
        std::fs::create_dir_all(target().join("bench"))
            .and_then(|()| std::fs::write(&path, format!("{:#}\n", self.json())))
            .with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(path)
    }

    /// The numbers of the first kind at the top, those of another in an object of its name.
    fn json(&self) -> Value {
        let unpacking = &self.unpacking;
        let mut all = serde_json::Map::new();
        for (place, measured) in self.sources.iter().enumerate() {
            match (place, measured.json()) {
                (0, Value::Object(numbers)) => all.extend(numbers),
                (_, numbers) => drop(all.insert(measured.kind.to_string(), numbers)),
            }
        }
        let unpack = json!({
            "seconds": rounded(unpacking.ours.as_secs_f64()),
            "tar_seconds": rounded(unpacking.tar.as_secs_f64()),
            "peak_rss_mib": rounded(unpacking.peak_mib),
            "tenth_peak_rss_mib": rounded(unpacking.small_peak_mib),
        });
        all.insert("unpack_ratio".into(), rounded(unpacking.ratio()).into());
        all.insert("unpack".into(), unpack);
        all.into()
    }
}

impl Measured {
    /// # Errors
    /// If nothing was measured.
    pub fn new(kind: Kind, mut rounds: Vec<Round>, installs: Installs) -> anyhow::Result<Self> {
        ensure!(!rounds.is_empty(), "nothing was measured");
        rounds.sort_by(|one, other| one.ratio().total_cmp(&other.ratio()));
        Ok(Self { kind, rounds, installs })
    }

    /// The one whose ratio is the median.
    fn median(&self) -> &Round {
        &self.rounds[self.rounds.len() / 2]
    }

    /// For people.
    pub fn table(&self) -> String {
        let (Round { time, floor }, installs) = (self.median(), &self.installs);
        let ratios: Vec<_> = self.rounds.iter().map(|round| format!("{:.2}×", round.ratio())).collect();
        let count = f64::from(installs.count);
        let title = format!("{count} extensions, {}", self.kind);
        let mut table = format!("{title:58}{:>10}{:>12}\n", "measured", "target");
        let mut row = |name: &str, value: String, target: &str| write_row(&mut table, name, &value, target);
        row("apply until all are Ready", seconds(*time), "");
        row("floor", seconds(floor.total()), "");
        row("  kubectl apply without a controller", seconds(floor.apply), "");
        row("  fetching and unpacking, 10 at a time, nothing synced", seconds(floor.fetch), "");
        row("  one status PATCH each, 10 at a time", seconds(floor.status), "");
        row("ratio to the floor, the median", format!("{:.2}×", self.median().ratio()), "≤ 1.5×");
        row("API writes per install", format!("{:.2}", installs.requests.writes() / count), "≤ 3");
        row("API requests per install", format!("{:.2}", installs.requests.total() / count), "");
        row("processor time per install", format!("{:.1} ms", installs.cpu_seconds * 1000.0 / count), "");
        row("peak memory, installing", format!("{:.1} MiB", installs.install_peak_mib), "");
        row("peak memory, to the end", format!("{:.1} MiB", installs.peak_mib), "< 64 MiB");
        row("downloads", installs.downloads.to_string(), "");
        let idle = format!("idle for {} s: ", installs.idle.as_secs());
        row(&format!("{idle}API requests per minute"), format!("{:.1}", self.idle_requests_per_minute()), "");
        row(&format!("{idle}processor time per minute"), format!("{:.2} s", self.idle_cpu_per_minute()), "");
        row("re-sync: looks that found nothing new", installs.resync_unchanged.to_string(), "");
        row("re-sync: downloads", installs.resync_downloads.to_string(), "0");
        row("re-sync: API writes", format!("{:.0}", installs.resync_writes), "0");
        row("re-sync: processor time", format!("{:.2} s", installs.resync_cpu_seconds), "");
        let _ = writeln!(table, "ratios of all rounds: {}", ratios.join(", "));
        let _ = writeln!(table, "most requests: {}", installs.requests.most(8).join(", "));
        let _ = writeln!(table, "most requests while idle: {}", installs.idle_requests.most(5).join(", "));
        table
    }

    /// Which targets are missed that no slow machine explains.
    fn missed(&self) -> Vec<String> {
        let (installs, count) = (&self.installs, f64::from(self.installs.count));
        // of what the cluster writes for itself, less than this is not told apart
        let noise = count / 100.0;
        let missed = [
            (installs.requests.writes() > 3.0 * count + noise, "more than 3 API writes per install"),
            (installs.peak_mib >= 64.0, "64 MiB of memory or more"),
            (installs.resync_downloads > 0, "a re-sync that downloads what has not changed"),
            (installs.resync_writes > noise, "a re-sync that writes although nothing has changed"),
        ];
        missed.iter().filter(|(is_missed, _)| *is_missed).map(|(_, what)| format!("{}: {what}", self.kind)).collect()
    }

    fn json(&self) -> Value {
        let (Round { time, floor }, installs) = (self.median(), &self.installs);
        let ratios: Vec<_> = self.rounds.iter().map(|round| rounded(round.ratio())).collect();
        json!({
            "extensions": installs.count,
            "source": self.kind.to_string(),
            "seconds": rounded(time.as_secs_f64()),
            "floor_seconds": rounded(floor.total().as_secs_f64()),
            "floor": {
                "apply_seconds": rounded(floor.apply.as_secs_f64()),
                "fetch_seconds": rounded(floor.fetch.as_secs_f64()),
                "status_seconds": rounded(floor.status.as_secs_f64()),
            },
            "ratio": rounded(self.median().ratio()),
            "ratios": ratios,
            "peak_rss_mib": rounded(installs.peak_mib),
            "install_peak_rss_mib": rounded(installs.install_peak_mib),
            "cpu_seconds": rounded(installs.cpu_seconds),
            "requests": installs.requests.by_verb(),
            "writes_per_install": rounded(installs.requests.writes() / f64::from(installs.count)),
            "downloads": installs.downloads,
            "idle_requests_per_minute": rounded(self.idle_requests_per_minute()),
            "idle_cpu_seconds_per_minute": rounded(self.idle_cpu_per_minute()),
            "resync_downloads": installs.resync_downloads,
            "resync_unchanged": installs.resync_unchanged,
            "resync_writes": rounded(installs.resync_writes),
            "resync_cpu_seconds": rounded(installs.resync_cpu_seconds),
        })
    }

    fn idle_requests_per_minute(&self) -> f64 {
        self.installs.idle_requests.total() / self.installs.idle.as_secs_f64() * 60.0
    }

    fn idle_cpu_per_minute(&self) -> f64 {
        self.installs.idle_cpu_seconds / self.installs.idle.as_secs_f64() * 60.0
    }
}

fn write_row(table: &mut String, name: &str, value: &str, target: &str) {
    let _ = writeln!(table, "{name:58}{value:>10}{target:>12}");
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// To a thousandth.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
