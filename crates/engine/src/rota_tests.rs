//! Turns under a simulated clock: shares, waits and bounds, whatever the models do.

use super::*;
use crate::philox::uniform;

/// What a model does, in microseconds.
#[derive(Debug, Clone, Copy)]
struct Load {
    n_cores: usize,
    priority: Priority,
    /// A step, and what comes between two.
    step: u64,
    gap: u64,
    /// Steps in a row, and the pause behind them.
    n_steps: u64,
    pause: u64,
}

const BUSY: Load = Load {
    n_cores: 2,
    priority: Priority::Interactive,
    step: 10_000,
    gap: 500,
    n_steps: u64::MAX,
    pause: 0,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    /// Nothing, or sampling, to this moment; then it wants a turn.
    Other(u64),
    Waiting(u64),
    Step(u64),
}

struct Model {
    id: usize,
    load: Load,
    doing: Doing,
    n_left: u64,
    served: u64,
    longest_wait: u64,
}

struct Simulation {
    rota: Rota,
    n_cores: usize,
    began: Instant,
    /// Microseconds since then.
    at: u64,
    models: Vec<Model>,
    n_events: u64,
    seed: u64,
}

impl Simulation {
    fn new(n_cores: usize, loads: &[Load]) -> Self {
        let mut rota = Rota::new(n_cores);
        let model = |&load: &Load| Model {
            id: rota.join(load.n_cores),
            load,
            doing: Doing::Other(load.pause),
            n_left: load.n_steps,
            served: 0,
            longest_wait: 0,
        };
        let models = loads.iter().map(model).collect();
        let began = Instant::now();
        Self { rota, n_cores, began, at: 0, models, n_events: 0, seed: 0 }
    }

    fn now(&self) -> Instant {
        self.began + Duration::from_micros(self.at)
    }

    /// Lets everything happen that happens before a moment.
    fn run_to(&mut self, end: u64) {
        loop {
            let retry = self.hand_out();
            let own = |model: &Model| match model.doing {
                Doing::Other(until) | Doing::Step(until) => Some(until),
                Doing::Waiting(_) => None,
            };
            let next = self.models.iter().filter_map(own).chain(retry).min();
            let Some(next) = next.filter(|&next| next < end) else { break };
            self.at = self.at.max(next);
            (0..self.models.len()).for_each(|model_idx| self.move_on(model_idx));
        }
        self.at = end;
    }

    /// What happens to one model now.
    fn move_on(&mut self, model_idx: usize) {
        let (at, now) = (self.at, self.now());
        let model = &mut self.models[model_idx];
        match model.doing {
            Doing::Other(until) if until <= at => {
                let _ = self.rota.claim(model.id, model.load.priority);
                model.doing = Doing::Waiting(at);
            }
            Doing::Step(until) if until <= at => {
                self.rota.end(model.id, now);
                model.n_left -= 1;
                model.doing = Doing::Other(at + model.load.gap);
                if model.n_left == 0 {
                    self.rota.rest(model.id);
                    model.n_left = model.load.n_steps;
                    model.doing = Doing::Other(at + model.load.pause);
                }
            }
            _ => {}
        }
    }

    /// Asks for all that wait, in any order, until nobody begins; returns when to ask again.
    fn hand_out(&mut self) -> Option<u64> {
        loop {
            let (mut has_begun, mut retry) = (false, None);
            let mut order: Vec<usize> = (0..self.models.len()).collect();
            self.n_events += 1;
            order.sort_by_key(|&idx| (uniform(self.seed + idx as u64, self.n_events) * 1e6) as u64);
            for model_idx in order {
                let now = self.now();
                let model = &mut self.models[model_idx];
                let Doing::Waiting(since) = model.doing else { continue };
                match self.rota.ask(model.id, now) {
                    Answer::Begin => {
                        has_begun = true;
                        model.longest_wait = model.longest_wait.max(self.at - since);
                        model.served += model.load.step;
                        model.doing = Doing::Step(self.at + model.load.step);
                    }
                    Answer::Wait(until) => {
                        let until = until.map(|until| (until - self.began).as_micros() as u64);
                        retry = retry.into_iter().chain(until).min();
                    }
                    Answer::Never => panic!("nobody was retired"),
                }
            }
            self.check();
            if !has_begun {
                return retry;
            }
        }
    }

    fn check(&self) {
        let running = self.models.iter().filter(|m| matches!(m.doing, Doing::Step(_)));
        let n_taken: usize = running.map(|model| model.load.n_cores.min(self.n_cores)).sum();
        assert!(n_taken <= self.n_cores, "{n_taken} of {} cores", self.n_cores);
        assert_eq!(self.rota.n_free, self.n_cores - n_taken);
    }

    /// Parts of the time that the models had between two moments.
    fn shares(&mut self, from: u64, to: u64) -> Vec<f64> {
        self.run_to(from);
        let before: Vec<u64> = self.models.iter().map(|model| model.served).collect();
        self.run_to(to);
        let own = self.models.iter().zip(before).map(|(model, before)| model.served - before);
        own.map(|served| served as f64 / (to - from) as f64).collect()
    }
}

fn check_shares(n_cores: usize, loads: &[Load], expected: &[f64]) {
    let found = Simulation::new(n_cores, loads).shares(1_000_000, 61_000_000);
    let is_near = |(found, expected): (&f64, &f64)| (found - expected).abs() < 0.02;
    assert!(found.iter().zip(expected).all(is_near), "{loads:?}: {found:?}, {expected:?}");
}

#[test]
fn time_is_shared_whatever_the_steps_take() {
    let big = Load { step: 300_000, ..BUSY };
    let small = Load { step: 2000, gap: 300, ..BUSY };
    let batch = Load { priority: Priority::Batch, ..BUSY };
    check_shares(2, &[BUSY], &[20.0 / 21.0]);
    check_shares(2, &[BUSY, BUSY], &[0.5, 0.5]);
    // Beside a big one a small one has as much; while it samples, the cores wait for it.
    check_shares(2, &[big, BUSY], &[0.488, 0.488]);
    check_shares(2, &[big, small], &[0.465, 0.465]);
    check_shares(2, &[big, BUSY, BUSY], &[0.333, 0.333, 0.333]);
    // One that is rarely busy has what it asks for.
    let rare = Load { n_steps: 3, pause: 470_000, ..BUSY };
    check_shares(2, &[rare, BUSY], &[0.058, 0.905]);
    // Batch has a ninth.
    check_shares(2, &[BUSY, batch], &[0.856, 0.107]);
    check_shares(2, &[batch, batch], &[0.5, 0.5]);
    // Those that fit beside each other run beside each other.
    let one = Load { n_cores: 1, gap: 0, ..BUSY };
    check_shares(2, &[one, one], &[1.0, 1.0]);
    check_shares(2, &[one, one, one], &[0.667, 0.667, 0.667]);
    check_shares(2, &[Load { n_cores: 9, gap: 0, ..BUSY }, Load { gap: 0, ..BUSY }], &[0.5, 0.5]);
}

#[test]
fn an_idle_model_saves_nothing_up() {
    let late = Load { pause: 30_000_000, ..BUSY };
    let mut simulation = Simulation::new(2, &[BUSY, late]);
    let shares = simulation.shares(30_000_000, 31_000_000);
    assert!((shares[0] - 0.5).abs() < 0.02 && (shares[1] - 0.5).abs() < 0.02, "{shares:?}");
}

#[test]
fn an_interactive_step_waits_for_the_step_that_runs_and_one_of_batch() {
    let now_and_then = Load { step: 5000, n_steps: 7, pause: 93_000, ..BUSY };
    let batch = Load { priority: Priority::Batch, step: 400_000, ..BUSY };
    let mut simulation = Simulation::new(2, &[now_and_then, batch]);
    simulation.run_to(100_000_000);
    assert!(simulation.models[0].longest_wait <= 800_000, "{}", simulation.models[0].longest_wait);
    // The rest of the time is the other's.
    simulation.run_to(200_000_000);
    assert!(simulation.models[1].served > 50_000_000);

    // A request that comes while the model waits with a batch step is not behind its owner's past.
    let (mut rota, began) = (Rota::new(2), Instant::now());
    let at = |millis: u64| began + Duration::from_millis(millis);
    let [a, b] = [rota.join(2), rota.join(2)];
    let _ = rota.claim(a, Priority::Batch);
    assert_eq!(rota.ask(a, at(0)), Answer::Begin);
    let _ = rota.claim(b, Priority::Interactive);
    assert_eq!(rota.ask(b, at(0)), Answer::Wait(None));
    rota.end(a, at(100));
    let _ = rota.claim(a, Priority::Batch);
    assert_eq!(rota.ask(a, at(100)), Answer::Wait(None));
    assert_eq!(rota.ask(b, at(100)), Answer::Begin);
    rota.raise(a);
    rota.end(b, at(110));
    let _ = rota.claim(b, Priority::Interactive);
    assert_eq!(rota.ask(b, at(110)), Answer::Wait(None));
    assert_eq!(rota.ask(a, at(110)), Answer::Begin);
}

#[test]
fn one_that_comes_back_with_less_lets_others_go_first() {
    let (mut rota, began) = (Rota::new(2), Instant::now());
    let at = |millis: u64| began + Duration::from_millis(millis);
    let [a, b] = [rota.join(2), rota.join(2)];
    // Both have had 10 ms, and a its batch step, which counts for more.
    for (id, priority, millis) in
        [(a, Priority::Batch, 0), (a, Priority::Interactive, 20), (b, Priority::Interactive, 40)]
    {
        assert!(!rota.claim(id, priority), "it is expected later or not at all");
        assert_eq!(rota.ask(id, at(millis)), Answer::Begin);
        rota.end(id, at(millis + 10));
    }
    assert!(!rota.claim(b, Priority::Interactive), "as expected");
    assert_eq!(rota.ask(b, at(50)), Answer::Begin);
    rota.end(b, at(55));
    rota.rest(a);
    assert!(!rota.claim(a, Priority::Interactive), "it was not expected");
    assert_eq!(rota.ask(a, at(56)), Answer::Begin);
    rota.end(a, at(57));
    assert!(!rota.claim(b, Priority::Interactive));
    assert_eq!(rota.ask(b, at(57)), Answer::Wait(Some(at(57) + PATIENCE)));
    assert!(rota.claim(a, Priority::Batch), "b may go first");
    assert_eq!(rota.ask(b, at(58)), Answer::Begin);
}

/// What came and was looked at is of no later step.
#[test]
fn a_batch_step_behind_an_interactive_one_is_one() {
    let (mut rota, now) = (Rota::new(2), Instant::now());
    let a = rota.join(2);
    let check = |rota: &mut Rota, priority, expected| {
        let _ = rota.claim(a, priority);
        assert_eq!(rota.waits_with(a), Some(expected));
        assert_eq!(rota.ask(a, now), Answer::Begin);
    };
    let (interactive, batch) = (Priority::Interactive, Priority::Batch);
    // It came behind the look, so the model does not know of it.
    rota.lower(a);
    rota.raise(a);
    check(&mut rota, batch, interactive);
    // Here it came while the step ran, which took it in.
    rota.raise(a);
    rota.end(a, now);
    rota.lower(a);
    check(&mut rota, batch, batch);
}

#[test]
fn nobody_waits_long_for_one_that_does_not_come_back() {
    let (mut rota, began) = (Rota::new(2), Instant::now());
    let at = |millis: u64| began + Duration::from_millis(millis);
    let [a, b, c] = [rota.join(2), rota.join(2), rota.join(2)];
    let _ = rota.claim(a, Priority::Interactive);
    assert_eq!(rota.ask(a, at(0)), Answer::Begin);
    rota.end(a, at(100));
    let _ = rota.claim(b, Priority::Interactive);
    assert_eq!(rota.ask(b, at(100)), Answer::Begin);
    let _ = rota.claim(c, Priority::Interactive);
    rota.end(b, at(101));
    assert_eq!(rota.ask(c, at(101)), Answer::Begin);
    rota.end(c, at(150));
    // c had less; of b nobody knows any more when it comes back.
    let _ = rota.claim(a, Priority::Interactive);
    assert_eq!(rota.ask(a, at(150)), Answer::Wait(Some(at(150) + PATIENCE)));
    let [late, later] = [at(150) + PATIENCE, at(200)];
    assert_eq!(rota.ask(a, late), Answer::Begin);
    rota.end(a, later);
    // One that is gone, even in its turn, is not waited for, nor is one that is to end.
    let _ = rota.claim(b, Priority::Interactive);
    assert_eq!(rota.ask(b, later), Answer::Begin);
    rota.leave(b, later);
    let _ = rota.claim(c, Priority::Interactive);
    let _ = rota.claim(a, Priority::Interactive);
    assert_eq!(rota.ask(a, later), Answer::Wait(None));
    rota.retire(c);
    assert_eq!(rota.ask(c, later), Answer::Never);
    assert_eq!(rota.ask(a, later), Answer::Begin);
    assert_eq!(rota.join(1), b);
}

/// Any load: never more than the cores, everybody who waits is served, and two that wait all the
/// time have the same to a step of each.
#[test]
fn any_models_share_any_cores() {
    for case in 0..200_u64 {
        let number = |i: u64, n: u64| (uniform(case, i) * n as f64) as u64;
        let n_cores = 1 + number(0, 4) as usize;
        let load = |idx: u64| Load {
            n_cores: 1 + number(10 * idx, 6) as usize,
            priority: if number(10 * idx + 1, 4) == 0 { Priority::Batch } else { BUSY.priority },
            step: 500 + number(10 * idx + 2, 100_000),
            gap: number(10 * idx + 3, 3000),
            n_steps: 1 + number(10 * idx + 4, 20),
            pause: number(10 * idx + 5, 200_000),
        };
        let mut loads: Vec<Load> = (1..=number(5, 4)).map(load).collect();
        // Two that are always busy and take everything.
        let steps = [1000 + number(6, 50_000), 1000 + number(7, 50_000)];
        loads.extend(steps.map(|step| Load { n_cores, step, gap: 0, ..BUSY }));
        let mut simulation = Simulation::new(n_cores, &loads);
        simulation.seed = case << 8;
        simulation.run_to(2_000_000);
        let [a, b] = [loads.len() - 2, loads.len() - 1];
        let before = [a, b].map(|idx| simulation.models[idx].served);
        simulation.run_to(20_000_000);
        let served = |idx: usize, before: u64| simulation.models[idx].served - before;
        let apart = served(a, before[0]).abs_diff(served(b, before[1]));
        assert!(apart <= 2 * (steps[0] + steps[1]), "case {case}: {apart} of {steps:?}");
        for (model, load) in simulation.models.iter().zip(&loads) {
            let longest = loads.iter().map(|load| load.step).max().unwrap();
            let most = 12 * (loads.len() as u64 + 1) * longest * load.n_cores as u64;
            assert!(model.served > 0 && model.longest_wait <= most, "case {case}: {load:?}");
        }
    }
}
