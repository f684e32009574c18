package wal

import "time"

// One sync serves all that has gathered, and while it runs the clients that it will release are silent. If the committer
// went on with the first that arrives afterwards, the clients would fall into cohorts that take turns: each would wait for
// the others' sync and then for its own, and the disk and the processor would do twice the work. So the committer, which
// knows how many appends there were around the last sync, lets the clients that it has just released come back first, for
// no longer than a sync takes.
//
// That holds for clients that send a command and wait. Of long pipelines a few make a sync worth its while, and their next
// ones take the event loop as long to execute as the disk to sync: there waiting only takes away that both go on at once.
// Measured with 50 clients under always: 30 commands in a sync instead of 22 without pipelining; with 16 commands at a time
// and no bound on bytes it lost speed, hence gatherBytes.

const (
	// gatherStep is the pause in which appends gather. The system adds about as much again.
	gatherStep = 50 * time.Microsecond
	// gatherBytes is what is worth a sync of its own.
	gatherBytes = 12 << 10
	// gatherLeast is the number of appends in a commit below which there is nobody worth waiting for.
	gatherLeast = 4
	// gatherRest is the number of commits without a pause after one that brought nothing.
	gatherRest = 32
)

// gatherer decides whether the committer waits for more. It belongs to the committer.
type gatherer struct {
	expect int           // appends that were in the last commit or came during it
	sync   time.Duration // moving average of what a commit with a sync takes
	rest   int           // commits left without a pause
}

// more tells whether to pause once more: have appends have gathered, and waited is what the pauses have taken so far.
func (g *gatherer) more(have int, waited time.Duration) bool {
	if g.rest > 0 {
		g.rest--
		return false
	}
	// Seven in eight, since waiting for the last few costs all the others time.
	return have < g.expect-g.expect/8 && waited+2*gatherStep <= g.sync
}

// gathered takes what the pauses before a commit have brought: if nothing, whoever was there before has gone.
func (g *gatherer) gathered(gained int, waited time.Duration) {
	if gained == 0 && waited > 0 {
		g.rest = gatherRest
	}
}

// committed takes what is known at the end of a commit with a sync: how many appends it had, how many have come meanwhile,
// and what it took.
func (g *gatherer) committed(appends, came int, took time.Duration) {
	if g.expect = appends + came; appends < gatherLeast {
		g.expect = 0
	}
	if g.sync == 0 {
		g.sync = took
	}
	g.sync += (took - g.sync) / 8
}

// gather pauses as long as it pays. It returns at once when somebody has asked for a sync, and at the log's end.
func (l *Log) gather(g *gatherer) {
	l.mu.Lock()
	had, urgent := l.mu.appends, l.gatherNotLocked()
	l.mu.Unlock()
	have, waited, began := had, time.Duration(0), time.Now()
	for !urgent && g.more(have, waited) {
		pause(gatherStep)
		waited = time.Since(began)
		l.mu.Lock()
		have, urgent = l.mu.appends, l.gatherNotLocked()
		l.mu.Unlock()
	}
	g.gathered(have-had, waited)
}

// gatherNotLocked tells whether the committer is to go on at once: somebody asks for it, or there is enough. REQUIRES: mu.
func (l *Log) gatherNotLocked() bool {
	return l.mu.closing || l.mu.err != nil || l.mu.syncWant > Offset(l.written.Load()) || l.mu.bytes >= gatherBytes
}
