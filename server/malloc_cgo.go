//go:build linux && cgo

package server

// Weak: glibc has it, another C library need not. 1: done.

// extern int mallopt(int, int) __attribute__((weak));
// static int holdfast_mallopt(int param, int value) { return mallopt ? mallopt(param, value) : 0; }
import "C"

import "os"

// Pebble's memtables and cached blocks are C's memory. glibc maps what is larger than a threshold by itself and gives it back when it
// is freed. But the threshold follows the largest block freed so far, up to 32 MiB: once a memtable was freed, because there had been one
// more than usual while the disk was slow, the next ones came from the arenas, and what lay free in these, 50 MiB and more, was never
// given back. With fixed thresholds memtables are always mapped, while blocks stay in the arenas.
const (
	mallocMapBytes  = 1 << 20
	mallocTrimBytes = 4 << 20 // may lie free at an arena's end

	// As malloc.h numbers them.
	mTrimThreshold = -1
	mMmapThreshold = -3
)

// tuneMalloc has C's allocator give large blocks back, and tells whether it does: false where it is not glibc's. What the environment
// says of it (MALLOC_MMAP_THRESHOLD_) is obeyed instead.
func tuneMalloc() bool {
	if os.Getenv("MALLOC_MMAP_THRESHOLD_") != "" {
		return true
	}
	mapped := C.holdfast_mallopt(mMmapThreshold, mallocMapBytes)
	trimmed := C.holdfast_mallopt(mTrimThreshold, mallocTrimBytes)
	return mapped == 1 && trimmed == 1
}
