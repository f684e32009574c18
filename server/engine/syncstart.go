package engine

import (
	"context"
	"time"

	"github.com/holdfast-db/holdfast/wal"
)

// With which C a full sync begins. The store stands at some C; what the log has behind it the replica replays. So it can begin at
// once; or with the checkpoint that runs, whose C is later; or with one of its own, whose C is the end of the log. Each of these is
// waited for, and while the primary is under load a checkpoint takes seconds, since it lets clients go first. So what counts
// is the time that waiting and replaying take together.

const (
	// syncTail is how many bytes of log are replayed without asking what they cost.
	syncTail = 1 << 20
	// objectTime is what a checkpoint takes for an object if none has shown it, checkpointSample how many objects show it.
	objectTime       = 5 * time.Microsecond
	checkpointSample = 4096
	// ownTimes is how many times as long a checkpoint of its own is taken to last. The one that has shown the time may be of a quieter
	// moment: with the transfer of a full sync ahead and clients all the while, two to three times as long was seen. And a replica
	// that replays is one that is linked already.
	ownTimes = 2
)

// FreshenForSync waits until the store is what a full sync should begin with. replay is how many bytes of log a replica replays
// in a second.
func (e *Engine) FreshenForSync(ctx context.Context, replay float64) error {
	s := e.syncStart()
	if s.end == 0 {
		return nil
	}
	return e.CheckpointFrom(ctx, s.choose(replay))
}

// syncStart is what the choice depends on.
type syncStart struct {
	end     wal.Offset    // of the log
	stored  wal.Offset    // C of the store; 0: it has nothing
	running wal.Offset    // C of the checkpoint that runs; 0: none does
	left    time.Duration // until that one is done
	own     time.Duration // what one of all that is dirty now takes, begun behind it
}

func (e *Engine) syncStart() (s syncStart) {
	_, s.stored = e.SnapshotSize()
	e.mu.Lock()
	s.end = e.logEnd + wal.Offset(len(e.buf))
	_, dirty := e.ks.Dirty()
	e.mu.Unlock()
	e.check.mu.Lock()
	defer e.check.mu.Unlock()
	c := &e.check.mu
	each := objectTime
	if c.info.Objects >= checkpointSample {
		each = c.info.Took / time.Duration(c.info.Objects)
	}
	s.own = each * time.Duration(dirty)
	if c.handed.at > s.stored {
		s.running = c.handed.at
		s.left = leftOf(int64(c.handed.objects), e.check.visited.Load(), each, e.now().Sub(c.handed.when))
	}
	return s
}

// leftOf returns how long a checkpoint of so many objects will go on that has taken the rows of some of them in the time since its hand-over.
// Until it has taken enough of them to be its own measure, each is what the one before took for an object; under a load that is new, too little.
func leftOf(objects, visited int64, each, since time.Duration) time.Duration {
	if objects > 0 && visited >= objects/16 && visited > 0 {
		const tail = 0.15 // of all, by guess: what the rows do not take: tables, the ingest
		all := float64(since) * float64(objects) / float64(visited) / (1 - tail)
		return max(each, time.Duration(tail/2*all), time.Duration(all)-since)
	}
	whole := each * time.Duration(objects)
	return max(whole, 2*whole-since)
}

// choose returns the offset at which, or behind which, the store must stand.
func (s syncStart) choose(replay float64) wal.Offset {
	fresh := max(s.end-syncTail, 1)
	if s.stored >= fresh {
		return s.stored
	}
	behind := func(c wal.Offset) time.Duration {
		return time.Duration(float64(s.end-c) / replay * float64(time.Second))
	}
	best, takes := fresh, s.left+ownTimes*s.own
	if s.running > 0 && s.left+behind(s.running) < takes {
		best, takes = s.running, s.left+behind(s.running)
	}
	// A store that has nothing yet will not do: a replica judges by the keys in it whom it follows.
	if s.stored > 0 && behind(s.stored) < takes {
		best = s.stored
	}
	return best
}
