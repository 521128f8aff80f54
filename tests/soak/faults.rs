//! What goes wrong with the servers, and when. One of them, which changes, is usually left alone.

use std::ops::Range;
use std::time::{Duration, Instant};

use apiproxy::demo::ApiServer;
use fastrand::Rng;

/// Pause between two new faults, in milliseconds.
const PAUSE: Range<u64> = 300..2500;

/// How long a server is left alone, in milliseconds: longer than any stream may stand still.
const TERM: Range<u64> = 32_000..45_000;

/// Pause between two moments at which all are faulty, in milliseconds.
const BLACKOUTS: Range<u64> = 30_000..90_000;

#[derive(Clone, Copy, Debug)]
enum Fault {
    Hang,
    Crash,
    NotReady,
    Slow,
}

/// Makes faults and heals them.
pub struct Faults {
    rng: Rng,
    /// Of each server: its fault and when that ends.
    current: Vec<Option<(Fault, Instant)>>,
    /// Since when each server has been well.
    well: Vec<Instant>,
    steady: usize,
    next: Instant,
    next_steady: Instant,
    next_blackout: Instant,
    pub made: usize,
    pub blackouts: usize,
}

impl Faults {
    pub fn new(seed: u64, servers: usize) -> Self {
        let mut rng = Rng::with_seed(seed);
        let now = Instant::now();
        let after = |rng: &mut Rng, range| now + Duration::from_millis(rng.u64(range));
        Self {
            current: vec![None; servers],
            well: vec![now; servers],
            steady: rng.usize(..servers),
            next: after(&mut rng, PAUSE),
            next_steady: after(&mut rng, TERM),
            // Once in every run of a minute.
            next_blackout: after(&mut rng, 30_000..45_000),
            made: 0,
            blackouts: 0,
            rng,
        }
    }

    /// Heals what is due, and makes the next fault if it is due.
    pub fn step(&mut self, servers: &[ApiServer]) {
        let now = Instant::now();
        for (index, server) in servers.iter().enumerate() {
            if self.current[index].is_some_and(|(_, until)| until <= now) {
                self.heal(index, server);
            }
        }
        if now >= self.next_steady {
            // It takes over when it has recovered.
            if let Some(next) = (0..servers.len()).find(|i| self.is_old(*i)) {
                self.steady = next;
                self.next_steady = now + self.draw(TERM);
            }
        }
        if now >= self.next_blackout {
            self.blackouts += 1;
            self.next_blackout = now + self.draw(BLACKOUTS);
            for (index, server) in servers.iter().enumerate() {
                let time = self.draw(1_000..6_000);
                self.harm(index, server, time);
            }
        } else if now >= self.next {
            self.next = now + self.draw(PAUSE);
            let index = self.rng.usize(..servers.len());
            if index != self.steady && self.current[index].is_none() {
                // Most are short. Some last longer than a stream may stand still.
                let long = self.rng.u8(..4) == 0;
                let time = self.draw(if long { 10_000..35_000 } else { 300..8_000 });
                self.harm(index, &servers[index], time);
            }
        }
    }

    /// Since when one and the same server has been well; `None` while none is.
    pub fn well_since(&self) -> Option<Instant> {
        let well =
            |(index, since): (usize, &Instant)| self.current[index].is_none().then_some(*since);
        self.well.iter().enumerate().filter_map(well).min()
    }

    pub fn heal_all(&mut self, servers: &[ApiServer]) {
        for (index, server) in servers.iter().enumerate() {
            self.heal(index, server);
        }
    }

    /// Another server than the steady one that has been well for a while.
    fn is_old(&self, index: usize) -> bool {
        let old = self.well[index].elapsed() > Duration::from_secs(3);
        index != self.steady && self.current[index].is_none() && old
    }

    fn draw(&mut self, milliseconds: Range<u64>) -> Duration {
        Duration::from_millis(self.rng.u64(milliseconds))
    }

    fn harm(&mut self, index: usize, server: &ApiServer, time: Duration) {
        if self.current[index].is_some() {
            self.heal(index, server);
        }
        let fault = match self.rng.u8(..10) {
            0..4 => Fault::Hang,
            4..7 => Fault::Crash,
            7..9 => Fault::NotReady,
            _ => Fault::Slow,
        };
        match fault {
            Fault::Hang => server.hang(),
            Fault::Crash => server.crash(),
            Fault::NotReady => server.ready(false),
            Fault::Slow => server.delay(Duration::from_millis(self.rng.u64(200..4_000))),
        }
        self.made += 1;
        self.current[index] = Some((fault, Instant::now() + time));
    }

    fn heal(&mut self, index: usize, server: &ApiServer) {
        match self.current[index].take() {
            Some((Fault::Hang, _)) => server.resume(),
            Some((Fault::Crash, _)) => server.restart().unwrap(),
            Some((Fault::NotReady, _)) => server.ready(true),
            Some((Fault::Slow, _)) => server.delay(Duration::ZERO),
            None => return,
        }
        self.well[index] = Instant::now();
    }
}
