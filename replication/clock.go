package replication

import "time"

// Clock is where time comes from.
type Clock interface {
	Now() time.Time
	// NewTicker returns a channel that gets a time each d, and what stops that.
	NewTicker(d time.Duration) (ticks <-chan time.Time, stop func())
}

// SystemClock is the machine's clock.
type SystemClock struct{}

// Now returns the time.
func (SystemClock) Now() time.Time { return time.Now() }

// NewTicker starts a ticker.
func (SystemClock) NewTicker(d time.Duration) (<-chan time.Time, func()) {
	t := time.NewTicker(d)
	return t.C, t.Stop
}

// cron is how often timeouts are looked at, acknowledgements sent and connections tried again: each second, as Redis's
// replicationCron. Peers count on it: a lag of one second is normal, and a primary drops who is silent for repl-timeout.
const cron = time.Second
