//! The rows of a reduction: a thread reads one block of them while the sums take another.

use std::io::Read;
use std::panic::resume_unwind;
use std::sync::mpsc::{channel, Receiver, Sender};
use std::thread;

use riskft_core::cell::{ColumnType, SourceColumn};
use riskft_core::protocol::{broken, number_columns, read_frame, Progress, FRAME_BATCH, FRAME_END};
use riskft_core::reduce::{is_number, MOST_COLUMNS};
use riskft_core::refusal::Result;

use super::{Block, Moments, Summary};
use crate::events::Reporter;
use crate::job::unknown_frame;

/// Blocks under way: one is filled, one is added to the sums.
const BLOCKS: usize = 2;

/// The moments of the job's rows, columns ascending by name: their order in the relation has no say.
pub fn read(
    columns: &[SourceColumn],
    input: &mut (impl Read + Send),
    reporter: &Reporter,
) -> Result<Summary> {
    let order = order(columns)?;
    let mut moments =
        Moments::new(order.iter().map(|index| columns[*index].name.clone()).collect());
    let (full, filled) = channel();
    let (back, free) = channel();
    for _ in 0..BLOCKS {
        let _ = back.send(Block::new(columns.len()));
    }
    let reader = Reader { columns, order, free, full };
    // `back` ends with the closure, so that the reader does not wait for a block if a product fails.
    thread::scope(|scope| {
        let back = back;
        let reader = scope.spawn(move || reader.read(input));
        for mut block in filled {
            moments.absorb(&mut block);
            let _ = back.send(block);
            let done = moments.rows();
            reporter.progress(Progress { phase: "load".into(), done, ..Progress::default() });
        }
        reader.join().unwrap_or_else(|panic| resume_unwind(panic))
    })?;
    Ok(moments.finish())
}

struct Reader<'a> {
    columns: &'a [SourceColumn],
    order: Vec<usize>,
    free: Receiver<Block>,
    full: Sender<Block>,
}

impl Reader<'_> {
    /// Reads up to the end frame; stops early when nobody takes the blocks any more.
    fn read(self, input: &mut impl Read) -> Result<()> {
        let types: Vec<ColumnType> = self.columns.iter().map(|c| c.column_type).collect();
        let mut payload = Vec::new();
        let Ok(mut block) = self.free.recv() else { return Ok(()) };
        loop {
            match read_frame(input, &mut payload)? {
                FRAME_BATCH => {}
                FRAME_END => break,
                other => return Err(unknown_frame(other)),
            }
            let (mut left, mut cells) = number_columns(&payload, &types)?;
            while left > 0 {
                let rows = left.min(block.room());
                block.add(rows, |place, out| cells[self.order[place]].take(out));
                left -= rows;
                if block.room() == 0 {
                    let _ = self.full.send(block);
                    let Ok(next) = self.free.recv() else { return Ok(()) };
                    block = next;
                }
            }
        }
        if block.rows() > 0 {
            let _ = self.full.send(block);
        }
        Ok(())
    }
}

/// The columns' indices, by name.
fn order(columns: &[SourceColumn]) -> Result<Vec<usize>> {
    if columns.is_empty() || columns.len() > MOST_COLUMNS {
        return Err(broken(&format!("the header has {} columns", columns.len())));
    }
    if !columns.iter().all(|column| is_number(column.column_type)) {
        return Err(broken("a column holds no numbers"));
    }
    let mut order: Vec<usize> = (0..columns.len()).collect();
    order.sort_by_key(|index| &columns[*index].name);
    if order.windows(2).any(|two| columns[two[0]].name == columns[two[1]].name) {
        return Err(broken("a column comes twice"));
    }
    Ok(order)
}
