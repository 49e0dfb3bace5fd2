//! The function profiler: hits and times of each function, by lane.

use crate::functions::{FunctionId, Functions};
use crate::output::micros;
use std::collections::HashMap;
use std::fmt::Write;

/// What is known of a function.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    hits: u64,
    time: u64,
    squares: f64,
}

/// The profile of a process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Profile {
    pub(crate) on: bool,
    lanes: Vec<HashMap<FunctionId, Figures>>,
}

impl Profile {
    /// Begins anew, or stops; what was found stays until then.
    pub(crate) fn switch(&mut self, on: bool) {
        if on && !self.on {
            self.lanes.clear();
        }
        self.on = on;
    }

    /// A call has ended, after so many nanoseconds.
    pub(crate) fn add(&mut self, lane: usize, function: FunctionId, time: u64) {
        if self.lanes.len() <= lane {
            self.lanes.resize_with(lane + 1, HashMap::new);
        }
        let figures = self.lanes[lane].entry(function).or_default();
        figures.hits += 1;
        figures.time += time;
        figures.squares += (time as f64) * (time as f64);
    }

    /// `trace_stat/functionN`: the slowest functions first.
    pub(crate) fn listing(&self, lane: usize, functions: &Functions) -> String {
        let mut text = String::from(
            "  Function                               Hit    Time            Avg             s^2\n  \
             --------                               ---    ----            ---             ---\n",
        );
        let mut rows: Vec<_> = self.lanes.get(lane).into_iter().flatten().collect();
        rows.sort_by_key(|(id, it)| (std::cmp::Reverse(it.time), **id));
        for (id, it) in rows {
            let name: String = functions.name(*id).chars().take(30).collect();
            let average = it.time / it.hits.max(1);
            let _ = write!(text, "  {name:<30}  {:10}    ", it.hits);
            text += &micros(it.time);
            text += "    ";
            text += &micros(average);
            text += "    ";
            text += &micros(it.variance());
            text.push('\n');
        }
        text
    }
}

impl Figures {
    /// Of the sample, in thousandths of square microseconds, which is what the column shows.
    fn variance(&self) -> u64 {
        if self.hits < 2 {
            return 0;
        }
        let hits = self.hits as f64;
        let squares = (self.squares - (self.time as f64) * (self.time as f64) / hits).max(0.0);
        (squares / (hits - 1.0) / 1000.0) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::Function;

    #[test]
    fn totals_averages_and_variances() {
        let function =
            |name: &str| Function { name: name.into(), module: None, address: 0, size: 1 };
        let functions = Functions::new(vec![function("fast"), function("slow")]);
        let mut profile = Profile::default();
        profile.switch(true);
        [1000, 3000].iter().for_each(|time| profile.add(0, FunctionId(0), *time));
        profile.add(0, FunctionId(1), 9_000);
        let text = profile.listing(0, &functions);
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "  slow                                     1    9.000 us        9.000 us        0.000 us    ",
                "  fast                                     2    4.000 us        2.000 us        2.000 us    ",
            ]
        );
        assert_eq!(profile.listing(1, &functions).lines().count(), 2);
    }
}
