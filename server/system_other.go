//go:build !linux

package server

// multiplexing is what INFO calls multiplexing_api.
const multiplexing = "go"

// systemMemory returns 0: not known here.
func systemMemory() int64 { return 0 }
