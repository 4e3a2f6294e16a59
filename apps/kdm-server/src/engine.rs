//! The threads that compute: each takes jobs from a bounded queue of its own. One draws samples,
//! and joins those that different requests want of one student into batches. A sample depends on
//! its own noise and class alone, so that whoever asks gets the same bits in any company. The other
//! does what takes longer, so that nobody who draws waits for somebody's inversion.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use kdm::Outcome;
use kdm::data::Labels;
use kdm::observer::{Event, Observer};
use tokio::sync::oneshot;

use crate::metrics::Metrics;
use crate::models::Model;
use crate::work::{Done, Draw, Work};

/// How long the first samples of a batch wait for others that might be drawn with them.
const WINDOW: Duration = Duration::from_millis(2);
/// Images of a batch, and points.
const IMAGES: usize = 64;
const POINTS: usize = 4096;
/// Samples that a teacher draws before others have their turn.
const TAUGHT: usize = 4;
/// How often a thread without work looks whether it should stop.
const LOOK: Duration = Duration::from_millis(50);

/// What a request wants to be computed.
#[derive(Debug)]
pub struct Job {
    /// The model's place.
    pub model: usize,
    /// What to do.
    pub work: Work,
    /// When nobody waits for the answer any more.
    pub deadline: Instant,
    /// Where the answer goes; closed when the client has gone.
    pub reply: oneshot::Sender<Outcome<Done>>,
}

/// Why a job was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is too much in the queue already; it is likely to have room after this time.
    Busy(Duration),
    /// The server is stopping.
    Stopping,
}

/// The queues' entrance.
#[derive(Clone, Debug)]
pub struct Queue {
    drawing: Lane,
    working: Lane,
    most: usize,
}

/// The entrance to one engine's queue.
#[derive(Clone, Debug)]
struct Lane {
    jobs: Sender<(Job, Ticket)>,
    load: Arc<Load>,
}

/// What is in the queue and being worked on, in samples.
#[derive(Debug, Default)]
struct Load {
    samples: AtomicUsize,
    /// Samples drawn in the last second of work.
    rate: AtomicUsize,
}

/// A job's share of the load, given back when the job is done or given up.
#[derive(Debug)]
struct Ticket {
    load: Arc<Load>,
    samples: usize,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.load.samples.fetch_sub(self.samples, Ordering::Relaxed);
    }
}

impl Queue {
    /// Takes a job where there is room.
    ///
    /// # Errors
    /// When the queue is full, or the server is stopping.
    pub fn push(&self, job: Job) -> Result<(), Refused> {
        let lane = if job.work.is_quick() { &self.drawing } else { &self.working };
        let (load, samples) = (lane.load.clone(), job.work.cost());
        let before = load.samples.fetch_add(samples, Ordering::Relaxed);
        let ticket = Ticket { load, samples };
        // A job larger than the queue is taken by an empty one.
        if before > 0 && before + samples > self.most {
            // Before anything is drawn nothing is known of how long it takes.
            let wait = match lane.load.rate.load(Ordering::Relaxed) {
                0 => Duration::ZERO,
                rate => Duration::from_secs_f64(before as f64 / rate as f64),
            };
            return Err(Refused::Busy(wait));
        }
        lane.jobs.send((job, ticket)).map_err(|_| Refused::Stopping)
    }

    /// Samples that are waited for.
    pub fn waiting(&self) -> usize {
        [&self.drawing, &self.working]
            .map(|lane| lane.load.samples.load(Ordering::Relaxed))
            .iter()
            .sum()
    }
}

/// What computes.
pub struct Engine {
    models: Arc<Vec<Model>>,
    jobs: Receiver<(Job, Ticket)>,
    load: Arc<Load>,
    metrics: Arc<Metrics>,
    pending: VecDeque<Pending>,
}

/// A job that was taken.
struct Pending {
    job: Job,
    _ticket: Ticket,
    taken: Instant,
    /// Samples that are drawn already.
    drawn: Vec<f32>,
    /// How many these are.
    count: usize,
}

impl Pending {
    /// Whether nobody waits for the answer.
    fn is_vain(&self) -> bool {
        self.job.reply.is_closed() || Instant::now() >= self.job.deadline
    }

    /// What is to be drawn by a model in batches; none for other work.
    fn draw(&self, model: usize) -> Option<&Draw> {
        match &self.job.work {
            Work::Sample(draw) if self.job.model == model => Some(draw),
            _ => None,
        }
    }
}

/// Engines for `models`, one that draws and one that does longer work, and the entrance to their
/// queues of `most` samples each.
pub fn engines(
    models: &Arc<Vec<Model>>,
    most: usize,
    metrics: &Arc<Metrics>,
) -> ([Engine; 2], Queue) {
    let engine = || {
        let (send, jobs) = channel();
        let load = Arc::new(Load::default());
        let lane = Lane { jobs: send, load: load.clone() };
        let (models, metrics) = (models.clone(), metrics.clone());
        (Engine { models, jobs, load, metrics, pending: VecDeque::new() }, lane)
    };
    let ((draws, drawing), (works, working)) = (engine(), engine());
    ([draws, works], Queue { drawing, working, most })
}

impl Engine {
    /// Works until every entrance to the queue is closed and all that was taken is done. `looking`
    /// is called between two pieces of work, at least twenty times a second.
    pub fn run(mut self, mut looking: impl FnMut()) {
        let mut open = true;
        while open || !self.pending.is_empty() {
            looking();
            let wait = match self.pending.front() {
                None => LOOK,
                Some(first) if self.is_worth_waiting(first) => {
                    WINDOW.saturating_sub(first.taken.elapsed())
                }
                Some(_) => Duration::ZERO,
            };
            match self.jobs.recv_timeout(wait) {
                Ok((job, ticket)) => {
                    self.take(job, ticket);
                    while let Ok((job, ticket)) = self.jobs.try_recv() {
                        self.take(job, ticket);
                    }
                    // There may be more within the window.
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => open = false,
            }
            self.pending.retain(|pending| !pending.is_vain());
            match self.pending.front().map(|first| &first.job.work) {
                None => {}
                Some(Work::Sample(_)) => self.draw_batch(),
                Some(_) => self.work_on_first(),
            }
        }
    }

    fn take(&mut self, job: Job, ticket: Ticket) {
        let taken = Instant::now();
        self.pending.push_back(Pending {
            job,
            _ticket: ticket,
            taken,
            drawn: Vec::new(),
            count: 0,
        });
    }

    /// Whether a batch of the first job would have room for what may come soon.
    fn is_worth_waiting(&self, first: &Pending) -> bool {
        let model = first.job.model;
        let lefts = self.pending.iter().filter_map(|p| Some(p.draw(model)?.len() - p.count));
        matches!(first.job.work, Work::Sample(_))
            && first.taken.elapsed() < WINDOW
            && lefts.sum::<usize>() < self.batch(model)
    }

    /// Samples of a batch.
    fn batch(&self, model: usize) -> usize {
        if self.models[model].about.shape.len() == 3 { IMAGES } else { POINTS }
    }

    /// Draws one batch of the first job's model, and answers whoever has all samples.
    fn draw_batch(&mut self) {
        let model = self.pending[0].job.model;
        let student = &self.models[model].student;
        let mut room = self.batch(model);
        let (mut noise, mut labels, mut shares) = (Vec::new(), Labels::default(), Vec::new());
        for (place, pending) in self.pending.iter().enumerate() {
            let Some(draw) = pending.draw(model).filter(|_| room > 0) else { continue };
            let share = (draw.len() - pending.count).min(room);
            let part = draw.part(student, pending.count..pending.count + share);
            noise.extend(part.noise);
            labels.append(&part.labels);
            shares.push((place, share));
            room -= share;
        }
        let (dim, began) = (student.config().dim(), Instant::now());
        let mut drawn = student.sampler.sample(&noise, &labels).into_iter();
        self.told(labels.len(), began);
        self.metrics.batches.observe(labels.len() as f64);
        for (place, share) in shares {
            let pending = &mut self.pending[place];
            pending.drawn.extend(drawn.by_ref().take(share * dim));
            pending.count += share;
        }
        self.answer_finished(model);
        // Whoever wants more than a batch lets others go before.
        if self.pending.front().is_some_and(|first| first.count > 0) {
            self.pending.rotate_left(1);
        }
    }

    /// Answers the jobs of a model whose samples are all drawn.
    fn answer_finished(&mut self, model: usize) {
        let finished = |p: &Pending| p.draw(model).is_some_and(|draw| p.count == draw.len());
        let student = &self.models[model].student;
        let mut place = 0;
        while place < self.pending.len() {
            if !finished(&self.pending[place]) {
                place += 1;
                continue;
            }
            let Pending { job, drawn, .. } = self.pending.remove(place).expect("it is there");
            let Work::Sample(draw) = &job.work else { continue };
            let done = student.check_finite(&drawn).map(|()| draw.drawn(student, drawn).into());
            let _ = job.reply.send(done);
        }
    }

    /// Does the first job, which is not drawn in batches, or the next part of it.
    fn work_on_first(&mut self) {
        let Some(mut pending) = self.pending.pop_front() else { return };
        let (model, began) = (&self.models[pending.job.model], Instant::now());
        let done = match &pending.job.work {
            Work::Sample(_) => return self.pending.push_front(pending),
            Work::Whole(whole) => {
                let done = whole.run(model, &Waiting(&pending));
                self.told(pending.job.work.cost(), began);
                done
            }
            Work::Teacher(draw) => {
                let end = (pending.count + TAUGHT).min(draw.len());
                let part = draw.part(&model.student, pending.count..end);
                let drawn = model.of_teacher(part, &Waiting(&pending));
                self.told(end - pending.count, began);
                let whole = drawn.map(|drawn| [&pending.drawn[..], &drawn.images].concat());
                match whole {
                    Ok(drawn) if end < draw.len() => {
                        (pending.drawn, pending.count) = (drawn, end);
                        return self.pending.push_back(pending);
                    }
                    whole => whole.map(|drawn| draw.drawn(&model.student, drawn).into()),
                }
            }
        };
        let _ = pending.job.reply.send(done);
    }

    fn told(&self, samples: usize, began: Instant) {
        let seconds = began.elapsed().as_secs_f64();
        self.load.rate.store((samples as f64 / seconds.max(1e-6)) as usize, Ordering::Relaxed);
        self.metrics.samples.inc_by(samples as u64);
        self.metrics.busy.inc_by(seconds);
    }
}

/// Stops work that nobody waits for any more.
struct Waiting<'a>(&'a Pending);

impl Observer for Waiting<'_> {
    fn event(&self, _: &Event) {}

    fn stopping(&self) -> bool {
        self.0.is_vain()
    }
}
