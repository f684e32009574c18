package server

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of what one entry of the slow log keeps, as Redis has them: an entry must stay small whatever the command was.
const (
	slowlogMaxArgs  = 32
	slowlogMaxBytes = 128 // of one argument
)

// slowEntry is a command that took long.
type slowEntry struct {
	id         int64
	at         time.Time
	took       time.Duration
	args       [][]byte
	addr, name string
}

// slowlog keeps the newest slow commands.
type slowlog struct {
	// threshold in ns; negative = off. Read for each command.
	threshold atomic.Int64

	mu struct {
		sync.Mutex
		entries []slowEntry // oldest first
		nextID  int64
		max     int
	}
}

func (l *slowlog) configure(thresholdMicros, maxLen int64) {
	if thresholdMicros < 0 {
		l.threshold.Store(-1)
	} else {
		l.threshold.Store(min(thresholdMicros, int64(1)<<50) * 1000)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.max = int(min(maxLen, 1<<30))
	l.trimLocked()
}

func (l *slowlog) trimLocked() {
	if n := len(l.mu.entries) - l.mu.max; n > 0 {
		l.mu.entries = append(l.mu.entries[:0:0], l.mu.entries[n:]...)
	}
}

// add notes a command; args are copied, long ones cut as Redis cuts them.
func (l *slowlog) add(at time.Time, took time.Duration, args [][]byte, addr, name string) {
	e := slowEntry{at: at, took: took, addr: addr, name: name}
	n := min(len(args), slowlogMaxArgs)
	for i := range n {
		if i == slowlogMaxArgs-1 && len(args) > slowlogMaxArgs {
			e.args = append(e.args, fmt.Appendf(nil, "... (%d more arguments)", len(args)-slowlogMaxArgs+1))
			break
		}
		a := args[i]
		if len(a) > slowlogMaxBytes {
			e.args = append(e.args, fmt.Appendf(append([]byte(nil), a[:slowlogMaxBytes]...), "... (%d more bytes)", len(a)-slowlogMaxBytes))
			continue
		}
		e.args = append(e.args, append([]byte(nil), a...))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e.id = l.mu.nextID
	l.mu.nextID++
	l.mu.entries = append(l.mu.entries, e)
	l.trimLocked()
}

// newest returns up to n entries, newest first; n < 0 = all.
func (l *slowlog) newest(n int) []slowEntry {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n < 0 || n > len(l.mu.entries) {
		n = len(l.mu.entries)
	}
	out := make([]slowEntry, 0, n)
	for i := range n {
		out = append(out, l.mu.entries[len(l.mu.entries)-1-i])
	}
	return out
}

func (l *slowlog) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.mu.entries)
}

func (l *slowlog) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.entries = nil
}
