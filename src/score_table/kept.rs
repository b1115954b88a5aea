//! Rows that outlive the transaction that they were read in.

use std::ffi::CStr;

use pgrx::pg_sys::{self, Datum};

use crate::relation::attribute;

/// Rows in the order in which they were put: in memory up to work_mem, then in a temporary file.
pub struct Kept {
    store: *mut pg_sys::Tuplestorestate,
    slot: *mut pg_sys::TupleTableSlot,
    description: pg_sys::TupleDesc,
    memory: Memory,
}

impl Kept {
    /// Of rows with the columns of the description.
    pub fn like(description: pg_sys::TupleDesc) -> Self {
        let memory = Memory::new(c"riskft kept rows");
        // SAFETY: all of it is made in memory of its own. What a store reads from its file belongs to
        // no resource owner when it is made to outlive the transaction.
        let (description, store, slot) = memory.within(|| unsafe {
            let description = pg_sys::CreateTupleDescCopy(description);
            let store = pg_sys::tuplestore_begin_heap(false, true, pg_sys::work_mem);
            let slots = &raw const pg_sys::TTSOpsMinimalTuple;
            (description, store, pg_sys::MakeSingleTupleTableSlot(description, slots))
        });
        Kept { store, slot, description, memory }
    }

    /// Adds a row. Values that lie outside of it are fetched: they may be gone when it is taken.
    ///
    /// # Safety
    /// There is a value, or a null, for each column of the description.
    pub unsafe fn put(&mut self, values: &mut [Datum], nulls: &mut [bool]) {
        // SAFETY: as promised.
        unsafe {
            for place in 0..values.len() {
                let is_long = attribute(self.description, place as i32).attlen == -1;
                if is_long && !nulls[place] {
                    let value = values[place].cast_mut_ptr();
                    values[place] = Datum::from(pg_sys::pg_detoast_datum_packed(value));
                }
            }
            self.memory.within(|| {
                pg_sys::tuplestore_putvalues(
                    self.store,
                    self.description,
                    values.as_mut_ptr(),
                    nulls.as_mut_ptr(),
                );
            });
        }
    }

    /// The next row: its values, and which are null.
    pub fn next(&mut self) -> Option<(&[Datum], &[bool])> {
        // SAFETY: the slot was made for the store's rows; it has as many values as the description
        // has columns.
        unsafe {
            // The slot frees a row that came from the file when it takes the next one, which may be
            // after a COMMIT.
            let (store, slot) = (self.store, self.slot);
            let take = || pg_sys::tuplestore_gettupleslot(store, true, false, slot);
            if !self.memory.within(take) {
                return None;
            }
            let columns = (*self.description).natts;
            pg_sys::slot_getsomeattrs_int(self.slot, columns);
            let columns = usize::try_from(columns).unwrap_or(0);
            Some((
                std::slice::from_raw_parts((*self.slot).tts_values, columns),
                std::slice::from_raw_parts((*self.slot).tts_isnull, columns),
            ))
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // SAFETY: ends what `like` made, while an ERROR unwinds too: the store's file outlives the
        // transaction.
        unsafe {
            pg_sys::ExecDropSingleTupleTableSlot(self.slot);
            pg_sys::tuplestore_end(self.store);
        }
    }
}

/// A memory context of the session, until dropped.
pub struct Memory(pg_sys::MemoryContext);

impl Memory {
    pub fn new(name: &'static CStr) -> Self {
        // SAFETY: plain call; the name is constant.
        Memory(unsafe {
            pg_sys::AllocSetContextCreateInternal(
                pg_sys::TopMemoryContext,
                name.as_ptr(),
                pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            )
        })
    }

    /// Lets what is done take its memory there.
    pub fn within<T>(&self, action: impl FnOnce() -> T) -> T {
        // SAFETY: the context lives as long as this.
        let before = unsafe { pg_sys::MemoryContextSwitchTo(self.0) };
        let result = action();
        // SAFETY: the context that was current.
        unsafe { pg_sys::MemoryContextSwitchTo(before) };
        result
    }

    /// Frees what was taken there.
    pub fn reset(&self) {
        // SAFETY: nothing points there any more where rows take turns.
        unsafe { pg_sys::MemoryContextReset(self.0) };
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: an ERROR within `within` leaves it the current one.
        unsafe {
            if pg_sys::CurrentMemoryContext == self.0 {
                pg_sys::MemoryContextSwitchTo(pg_sys::TopMemoryContext);
            }
            pg_sys::MemoryContextDelete(self.0);
        }
    }
}
