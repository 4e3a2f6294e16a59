//! The program's allocator: mimalloc, and a message and an exit code of its own where there is no
//! memory left.
//!
//! Tensors of a training step come and go by the megabyte; the system's allocator gives such memory
//! back each time and takes it anew, page by page. This one is told to keep it.

use std::alloc::{GlobalAlloc, Layout};
use std::io::{Cursor, Write};

use mimalloc::MiMalloc;

/// mimalloc, which never gives a null pointer: without memory the process ends.
pub struct Allocator;

// SAFETY: every call is passed on as it is, and what comes back is given as it is.
#[expect(unsafe_code)]
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        there(unsafe { MiMalloc.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        there(unsafe { MiMalloc.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        there(unsafe { MiMalloc.realloc(pointer, layout, size) }, size)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }
}

fn there(pointer: *mut u8, bytes: usize) -> *mut u8 {
    if pointer.is_null() {
        out_of_memory(bytes);
    }
    pointer
}

/// Ends the process as a failed command does. Files are whole or not there whenever it ends.
#[cold]
fn out_of_memory(bytes: usize) -> ! {
    // On the stack: there is nothing to allocate from.
    let mut text = Cursor::new([0u8; 512]);
    let _ = writeln!(
        text,
        "error: out of memory: {bytes} bytes more can't be had; work on less at a time (--batch, \
         --set train.batch=N, fewer --threads), or free memory or raise the limit on it, and run \
         the command again, with --resume where it has that flag: what was finished is kept"
    );
    let length = text.position() as usize;
    let _ = std::io::stderr().write_all(&text.get_ref()[..length]);
    std::process::exit(1)
}
