//! Outcomes that no run ever had, but that one could have.

use hdrhistogram::Histogram;
use quire_loadtest::live::outcome::{Cores, Counts, Outcome, Pair, Sample, Spread, Told, VERSION};

/// Draws in the same order each time.
struct Draw(u64);

impl Draw {
    /// Evenly between 0 and 1, neither of which comes.
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let high = u32::try_from(self.0 >> 33).expect("31 bits fit");
        (f64::from(high) + 0.5) / f64::from(1_u32 << 31)
    }

    /// A latency in microseconds with such a median: most are close to it and few are far above.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a latency is small and above 0"
    )]
    fn latency(&mut self, median: f64) -> u64 {
        let near = (0..4).map(|_| self.share()).sum::<f64>() - 2.0;
        let tail = if self.share() < 0.01 { -self.share().ln() } else { 0.0 };
        (median * (near * 0.7 + tail * 0.9).exp()) as u64
    }

    fn spread(&mut self, median: f64, many: usize) -> Spread {
        let mut histogram = Histogram::<u64>::new(3).expect("3 digits are allowed");
        for _ in 0..many {
            histogram.record(self.latency(median)).expect("the histogram grows");
        }
        Spread::from(&histogram)
    }

    fn sample(&mut self, second: i64) -> Sample {
        let ramp = u64::try_from(second + 16).unwrap_or(0).min(12);
        let [p50, p99] = [4_000.0, 21_000.0].map(|median| self.latency(median));
        let noise = u64::from(self.share() > 0.5) * 40 + u64::from(self.share() > 0.7) * 35;
        Sample {
            second,
            measured: second >= 0,
            sessions: ramp * 125,
            typed: ramp * 490 + noise * 2,
            deliveries: (ramp * 4_400 + noise * 60) * u64::from(second > -15),
            p50,
            p99,
            max: p99 * 2 + self.latency(9_000.0),
            server_cores: Some(0.12 * f64::from(u32::try_from(ramp).unwrap_or(0)) + self.share() * 0.1),
            server_bytes: Some((180 << 20) + (ramp << 23) + second.unsigned_abs() * 20_000 + noise * 10_000),
            generator_cores: 0.05 * f64::from(u32::try_from(ramp).unwrap_or(0)) + self.share() * 0.05,
            values: Vec::new(),
        }
    }
}

/// A run over three regions that went well.
pub(crate) fn three_regions() -> Outcome {
    let mut draw = Draw(7);
    let medians = [[0.0, 38_000.0, 112_000.0], [39_000.0, 0.0, 84_000.0], [115_000.0, 82_000.0, 0.0]];
    let pairs = (0..9).map(|at| (at / 3, at % 3)).filter(|(from, to)| from != to);
    let lag =
        pairs.map(|(from, to)| Pair { from, to, delivery: draw.spread(medians[from][to], 8_000) }).collect();
    Outcome {
        version: VERSION,
        began_unix_seconds: 1_790_000_000,
        plan: Told {
            profile: "office".into(),
            dialect: "quire".into(),
            urls: ["frankfurt", "virginia", "tokyo"]
                .map(|name| format!("wss://{name}.docs.example.com/v1/ws"))
                .into(),
            documents: 250,
            typists: 1_250,
            watchers: 250,
            keystrokes_per_second: 4.7,
            warm_seconds: 15.0,
            measured_seconds: 180.0,
            seed: 20_261_128,
        },
        passed: true,
        failures: Vec::new(),
        warnings: vec![
            "The generator used 0.61 of the machine's 2 cores, and the server ran on the same machine."
                .into(),
        ],
        counts: counts(),
        delivery: draw.spread(4_200.0, 200_000),
        ack: draw.spread(2_600.0, 60_000),
        join: draw.spread(19_000.0, 1_900),
        generator_late: draw.spread(90.0, 20_000),
        lag,
        converged_seconds: Some(0.734),
        samples: (-15..180).map(|second| draw.sample(second)).collect(),
        cores: Cores { server: Some(1.47), generator: 0.61, others: 0.04 },
    }
}

fn counts() -> Counts {
    Counts {
        typed: 1_104_230,
        deleted: 96_412,
        deliveries: 9_511_880,
        deliveries_per_second: 52_843.8,
        joins: 1_911,
        offline_spells: 143,
        tab_closes: 88,
        cursor_moves: 402_110,
        bytes_sent: 310 << 20,
        bytes_received: 2_400 << 20,
        ..Counts::default()
    }
}

/// A run at one server that nobody watched, so slow by a factor.
pub(crate) fn one_region(seed: u64, slower: f64) -> Outcome {
    let mut draw = Draw(seed);
    let whole = three_regions();
    let unwatched = |sample: Sample| Sample { server_cores: None, server_bytes: None, ..sample };
    Outcome {
        plan: Told { dialect: "yjs".into(), urls: vec!["ws://127.0.0.1:1234".into()], ..whole.plan },
        warnings: Vec::new(),
        counts: Counts { deliveries_per_second: 52_843.8 / slower + draw.share() * 900.0, ..whole.counts },
        delivery: draw.spread(4_200.0 * slower, 60_000),
        ack: Spread::default(),
        join: draw.spread(14_000.0 * slower, 900),
        lag: Vec::new(),
        samples: whole.samples.into_iter().map(unwatched).collect(),
        cores: Cores { server: None, ..whole.cores },
        ..whole
    }
}

/// A run that came to nothing.
pub(crate) fn nothing() -> Outcome {
    Outcome {
        version: VERSION,
        began_unix_seconds: 0,
        plan: Told {
            profile: String::new(),
            dialect: String::new(),
            urls: Vec::new(),
            documents: 0,
            typists: 0,
            watchers: 0,
            keystrokes_per_second: 0.0,
            warm_seconds: 0.0,
            measured_seconds: 0.0,
            seed: 0,
        },
        passed: false,
        failures: vec!["No server answered.".into()],
        warnings: Vec::new(),
        counts: Counts::default(),
        delivery: Spread::default(),
        ack: Spread::default(),
        join: Spread::default(),
        generator_late: Spread::default(),
        lag: Vec::new(),
        converged_seconds: None,
        samples: Vec::new(),
        cores: Cores::default(),
    }
}
