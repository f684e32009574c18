//go:build !linux

package wal

import "time"

// pause sleeps for d.
func pause(d time.Duration) { time.Sleep(d) }
