//! Bounds the memory that a target allocates: a length in the input must not be believed before the bytes are there.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

thread_local! {
    /// Bytes that this thread has allocated and not freed since [`bounded`] began, and the most of them at a time.
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

/// Runs `act`.
///
/// # Panics
/// It held more than `limit` bytes at a time in this thread.
pub fn bounded<T>(limit: usize, act: impl FnOnce() -> T) -> T {
    HELD.set((0, 0));
    let result = act();
    let (_, most) = HELD.get();
    assert!(most <= limit.cast_signed(), "{most} bytes were allocated, more than {limit}");
    result
}

fn count(bytes: isize) {
    let (held, most) = HELD.get();
    HELD.set((held + bytes, most.max(held + bytes)));
}

// SAFETY: everything is left to the system's allocator. Counting allocates nothing, because the cell is constant
// and has no destructor.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller's obligations are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size.cast_signed() - layout.size().cast_signed());
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

#[test]
fn a_large_allocation_is_noticed() {
    assert_eq!(bounded(2000, || vec![1_u8; 1000].len()), 1000);
    let large = std::panic::catch_unwind(|| bounded(2000, || Vec::<u8>::with_capacity(3000)));
    assert!(large.is_err());
}
