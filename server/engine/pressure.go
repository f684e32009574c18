package engine

import "time"

// What INFO tells of the janitor's work as Redis tells of its own: how far active expiry comes, and for how long there is more in
// memory than there should be.

// ExpiryStats tell of active expiry.
type ExpiryStats struct {
	// StalePercent is what part of the keys that can expire had, found at the janitor's passes; a moving average.
	StalePercent float64
	Capped       int64         // passes that ended with their time and not with their work
	Time         time.Duration // spent in passes
}

// staleWeight is the newest pass's weight in StalePercent: Redis's 5 %.
const staleWeight = 0.05

// pressure is under the executor lock.
type pressure struct {
	expiry    ExpiryStats
	overSince time.Time     // since when too much is in memory; zero: it is not
	overTotal time.Duration // before that
}

// passed notes a pass of active expiry: of so many keys with an expiry so many had expired.
func (p *pressure) passed(keys int, expired int64, capped bool, took time.Duration) {
	p.expiry.Time += took
	if capped {
		p.expiry.Capped++
	}
	share := 0.0
	if keys > 0 {
		share = 100 * float64(expired) / float64(keys)
	}
	p.expiry.StalePercent += staleWeight * (share - p.expiry.StalePercent)
}

// look notes whether there is too much in memory now.
func (p *pressure) look(over bool, now time.Time) {
	switch {
	case over && p.overSince.IsZero():
		p.overSince = now
	case !over && !p.overSince.IsZero():
		p.overTotal += now.Sub(p.overSince)
		p.overSince = time.Time{}
	}
}

// over tells for how long there has been too much in memory, in total and since it last was not.
func (p *pressure) over(now time.Time) (total, current time.Duration) {
	if !p.overSince.IsZero() {
		current = max(0, now.Sub(p.overSince))
	}
	return p.overTotal + current, current
}

// reset begins anew, but for what goes on.
func (p *pressure) reset(now time.Time) {
	over := !p.overSince.IsZero()
	*p = pressure{}
	p.look(over, now)
}
