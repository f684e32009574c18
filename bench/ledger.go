package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"
)

// Ledger is a write load that outlives its servers and remembers what they have acknowledged. Each writer alone writes its keys, each time
// with a higher version, so that what is found later tells what was lost: a key must have at least the version that was
// acknowledged, and at most the one that was sent.
type Ledger struct {
	opts    LedgerOptions
	writers []*ledgerWriter
	stop    context.CancelFunc
	wg      sync.WaitGroup

	mu struct {
		sync.Mutex
		addr   string               // where to write
		acked  int64                // writes acknowledged in all
		last   time.Time            // of the last acknowledgement, or of Start
		gap    time.Duration        // the longest time between two since the last Cut
		firsts map[string]time.Time // of the first acknowledgement by a server since the last Cut
		found  error                // a reply that must not be
	}
}

// LedgerOptions say how a Ledger writes.
type LedgerOptions struct {
	Addr     string
	Writers  int
	Keys     int // of each writer
	Depth    int // writes in a pipeline
	Replicas int // a write counts as acknowledged once WAIT has named so many; 0 = once it is answered
	Seed     uint64
}

// ledgerWriter is one connection's share. Its maps belong to its goroutine while the ledger runs.
type ledgerWriter struct {
	id          int
	rng         *rand.Rand
	version     int64
	acked, sent []int64 // by key, 0 = never
}

// waitLimit is the time limit of WAIT, and so how exactly it is known when a server without replicas has got them. A longer one would count
// the wait of one unlucky batch as the server's pause.
const waitLimit = 100 * time.Millisecond

// NewLedger makes a ledger that does not write yet.
func NewLedger(opts LedgerOptions) *Ledger {
	l := &Ledger{opts: opts}
	l.mu.addr = opts.Addr
	l.mu.firsts = map[string]time.Time{}
	for i := range opts.Writers {
		l.writers = append(l.writers, &ledgerWriter{id: i, rng: rand.New(rand.NewPCG(opts.Seed, uint64(i))),
			acked: make([]int64, opts.Keys), sent: make([]int64, opts.Keys)})
	}
	return l
}

// Start begins to write, again and again after Stop.
func (l *Ledger) Start(ctx context.Context) {
	ctx, l.stop = context.WithCancel(ctx)
	l.mu.Lock()
	l.mu.last = time.Now()
	l.mu.Unlock()
	for _, w := range l.writers {
		l.wg.Go(func() { l.write(ctx, w) })
	}
}

// Stop waits for the replies to what was sent and returns the first reply that must not be, if any.
func (l *Ledger) Stop() error {
	if l.stop != nil {
		l.stop()
	}
	l.wg.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.found
}

// SetAddr says where to write from now on. A writer goes there once its present server fails it.
func (l *Ledger) SetAddr(addr string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.addr = addr
}

// ledgerPart is what happened since the last Cut.
type ledgerPart struct {
	acked  int64 // in all, since the beginning
	gap    time.Duration
	firsts map[string]time.Time // when a server acknowledged first
}

// Cut returns what happened since the last Cut.
func (l *Ledger) Cut() ledgerPart {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := ledgerPart{l.mu.acked, max(l.mu.gap, time.Since(l.mu.last)), l.mu.firsts}
	l.mu.gap, l.mu.firsts = 0, map[string]time.Time{}
	return p
}

// ackedBy says whether a server has acknowledged a write since the last Cut.
func (l *Ledger) ackedBy(addr string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.mu.firsts[addr]
	return ok
}

func (l *Ledger) note(addr string, n int) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.acked += int64(n)
	l.mu.gap = max(l.mu.gap, now.Sub(l.mu.last))
	l.mu.last = now
	if _, ok := l.mu.firsts[addr]; !ok {
		l.mu.firsts[addr] = now
	}
}

// write is a writer's life: it connects, writes until something fails, and connects again.
func (l *Ledger) write(ctx context.Context, w *ledgerWriter) {
	for ctx.Err() == nil {
		l.mu.Lock()
		addr := l.mu.addr
		l.mu.Unlock()
		if c, err := Dial(addr); err == nil {
			err = l.converse(ctx, w, c, addr)
			c.Close()
			var wrong errWrong
			if errors.As(err, &wrong) {
				l.mu.Lock()
				l.mu.found = errors.Join(l.mu.found, err)
				l.mu.Unlock()
				return
			}
		}
		// A server that is dead refuses at once: ask it some hundred times a second and not more. The end of ctx ends the loop.
		if wait(ctx, 5*time.Millisecond) != nil {
			return
		}
	}
}

// errWrong is a reply that no server in no state may give.
type errWrong struct{ error }

// converse writes until ctx ends or the server fails: a connection that breaks, or an error reply such as READONLY.
func (l *Ledger) converse(ctx context.Context, w *ledgerWriter, c *Client, addr string) error {
	type write struct {
		key     int
		version int64
	}
	batch := make([]write, l.opts.Depth)
	var buf []byte
	for ctx.Err() == nil {
		buf = buf[:0]
		for i := range batch {
			w.version++
			batch[i] = write{w.rng.IntN(l.opts.Keys), w.version}
			w.sent[batch[i].key] = w.version
			buf = AppendCommand(buf, "SET", w.key(batch[i].key), w.value(batch[i].key, w.version))
		}
		if l.opts.Replicas > 0 {
			buf = AppendCommand(buf, "WAIT", strconv.Itoa(l.opts.Replicas), strconv.FormatInt(waitLimit.Milliseconds(), 10))
		}
		if err := c.Send(buf); err != nil {
			return err
		}
		// All replies are read, even after an error: what is still on its way when another server is written to could arrive after
		// that.
		var refused error
		for range batch {
			r, err := c.Read()
			if err != nil {
				return err
			}
			if r.Kind == '-' {
				refused = r.Err()
			} else if r.Kind != '+' {
				return errWrong{fmt.Errorf("SET answered %s", r)}
			}
		}
		if l.opts.Replicas > 0 {
			r, err := c.Read()
			if err != nil {
				return err
			}
			if err := r.Err(); err != nil {
				return err
			}
			if r.Int < int64(l.opts.Replicas) {
				continue // written, perhaps, and not confirmed
			}
		}
		if refused != nil {
			return refused
		}
		for _, b := range batch {
			w.acked[b.key] = b.version
		}
		l.note(addr, len(batch))
	}
	return nil
}

// key is the 20-byte name of a key of the writer.
func (w *ledgerWriter) key(n int) string {
	return string(appendDigits(appendDigits([]byte("led:"), int64(w.id), 4), int64(n), 12))
}

// value is the version in 8 bytes and what follows from it.
func (w *ledgerWriter) value(key int, version int64) string {
	return string(appendValue(binary.BigEndian.AppendUint64(nil, uint64(version)), int64(w.id)<<32|int64(key), version, valueSize-8))
}

// ledgerCheck is what Check found.
type ledgerCheck struct {
	keys, lost int
	example    string // of what was lost
}

// Check compares a server with the ledger; an error is a value that was never sent. What is found becomes what must be there from now on: what
// was on its way and is not there will never be. REQUIRES: the ledger is stopped.
func (l *Ledger) Check(addr string) (f ledgerCheck, err error) {
	c, err := Dial(addr)
	if err != nil {
		return f, err
	}
	defer c.Close()
	for _, w := range l.writers {
		for key, sent := range w.sent {
			if sent == 0 {
				continue
			}
			f.keys++
			r, err := c.Do("GET", w.key(key))
			if err != nil {
				return f, fmt.Errorf("GET %s: %w", w.key(key), err)
			}
			version := int64(0)
			if !r.Null {
				if len(r.Text) == valueSize {
					version = int64(binary.BigEndian.Uint64(r.Text))
				}
				if version < 1 || version > sent || string(r.Text) != w.value(key, version) {
					return f, fmt.Errorf("%s has a value that was never sent: %s", w.key(key), shorten(r.String()))
				}
			}
			if version < w.acked[key] {
				f.lost++
				f.example = fmt.Sprintf("%s has version %d, %d was acknowledged", w.key(key), version, w.acked[key])
			}
			w.acked[key] = version
		}
	}
	return f, nil
}
