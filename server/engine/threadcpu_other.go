//go:build !linux

package engine

import "time"

// threadCPU returns 0: not measured here.
func threadCPU() time.Duration { return 0 }
