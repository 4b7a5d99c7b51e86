//! The time of day beyond 2038 on 32-bit boxes.
//!
//! There Rust's standard library asks musl for a time of 32 bits, and panics when musl answers that today is too large
//! for it: a box whose clock is wrong, or right but some years from now, would die with the first line of its log. So
//! the question is answered here, and the time stands still at the last second that can be told. Nothing but names
//! for moments depends on it: media and time-outs have a clock that counts from the start of the box.

#![allow(unsafe_code, reason = "takes the place of a function of C")]

use libc::{c_int, clockid_t};

/// What `__clock_gettime64` writes: musl's `struct timespec` since its version 1.2.
#[repr(C)]
#[derive(Default)]
struct Long {
    seconds: i64,
    #[cfg(target_endian = "big")]
    pad: i32,
    nanoseconds: i32,
    #[cfg(target_endian = "little")]
    pad: i32,
}

/// What callers of `clock_gettime` expect: the same before.
#[repr(C)]
#[derive(Debug, PartialEq)]
struct Short {
    seconds: i32,
    nanoseconds: i32,
}

unsafe extern "C" {
    fn __clock_gettime64(clock: clockid_t, time: *mut Long) -> c_int;
}

/// clock_gettime(3) in the place of musl's.
///
/// # Safety
/// `time` points to a `struct timespec` of 32-bit fields that may be written.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut Short) -> c_int {
    let mut now = Long::default();
    // SAFETY: `now` is what musl writes.
    let code = unsafe { __clock_gettime64(clock, &raw mut now) };
    if code == 0 {
        // SAFETY: the caller's promise.
        unsafe { time.write(short(&now)) };
    }
    code
}

fn short(time: &Long) -> Short {
    match i32::try_from(time.seconds) {
        Ok(seconds) => Short { seconds, nanoseconds: time.nanoseconds },
        Err(_) if time.seconds < 0 => Short { seconds: i32::MIN, nanoseconds: 0 },
        Err(_) => Short { seconds: i32::MAX, nanoseconds: 999_999_999 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_stands_still_where_it_cannot_be_told() {
        let told = |seconds| short(&Long { seconds, nanoseconds: 7, ..Long::default() });
        assert_eq!(told(i64::from(i32::MAX)), Short { seconds: i32::MAX, nanoseconds: 7 });
        assert_eq!(told(i64::from(i32::MAX) + 1), Short { seconds: i32::MAX, nanoseconds: 999_999_999 });
        assert_eq!(told(i64::MIN), Short { seconds: i32::MIN, nanoseconds: 0 });
    }
}
