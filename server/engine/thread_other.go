//go:build !linux

package engine

import "time"

// threadCPU returns 0: not measured here.
func threadCPU() time.Duration { return 0 }

// otherThreads returns 0: not measured here.
func otherThreads() (ran, waited time.Duration) { return 0, 0 }

// restThread takes the calling thread off its processor for a moment.
func restThread() { time.Sleep(time.Microsecond) }

func mayHurry() bool { return false }

// hurryThread reports that it does nothing here.
func hurryThread() bool { return false }

func calmThread() {}

func usualThread() bool { return false }
