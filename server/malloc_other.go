//go:build !linux || !cgo

package server

// tuneMalloc has nothing to do: without C Pebble's memory is Go's, elsewhere the allocator is left as it is.
func tuneMalloc() bool { return true }
