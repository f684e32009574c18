package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-db/holdfast/wal"
)

// A primary's stream is applied by the same Replayer that recovers, and its bytes go to the log as they came (R1): memory and
// log move on together, record by record, under the lock (A2, W2).

const (
	// streamWindow is how many bytes of the stream are looked at together for keys that must be read from the store: they
	// are read in the order of its rows, without the lock. The more of them, the more share a block, whose reading and
	// unpacking is most of what a cold key costs: a replica that is behind has so much less to do. A memory budget makes it
	// smaller, since all of them are resident.
	streamWindow = 4 << 20
	// streamScan is how many bytes of a window are looked through for each hold of the lock, and streamInstall how many keys
	// are put in place: well below a millisecond.
	streamScan    = 128 << 10
	streamInstall = 512
	// streamTries is how often keys of a window are read because a checkpoint was settled meanwhile, before they are left to
	// the records that name them, which read them one by one.
	streamTries = 3
	// streamHold is for how long the lock is held while records are applied, a transaction in one piece excepted: readers
	// wait for so long at most, and the lock costs a thousandth of it.
	streamHold = time.Millisecond
	// streamAppend is after how many bytes a hold ends, which are appended in one piece: three such pieces fit into a chunk of the
	// log, which cannot be cut within one.
	streamAppend = 56 << 10
	// streamPending bounds in bytes what of the stream is in the log's buffer and not yet written: less than the buffer that
	// the log keeps, more than what it writes at once.
	streamPending = 4 << 20
	// streamLook is after how many records the clock is asked.
	streamLook = 8
)

// ErrNotReplica says that a stream is offered to a server that does not follow a primary.
var ErrNotReplica = errors.New("engine: not a replica")

// ApplyStream applies the whole records at the front of data, a MULTI … EXEC being one, and appends the same bytes to the log
// (R1). n is how many bytes it took, with an error, too; the caller keeps the rest and offers it again with more behind it.
// data is the caller's again when it returns. It waits for room, as writers do, until ctx ends. REQUIRES: SetReplica(true).
//
// A record that cannot be applied is a *ReplayError with its offset; neither memory nor the log then has any of it.
func (e *Engine) ApplyStream(ctx context.Context, data []byte) (n int, err error) {
	e.streamMu.Lock()
	defer e.streamMu.Unlock()
	defer e.streamWork.begin()()
	r := &e.stream
	*r = Replayer{e: e, live: true, w: r.w, args: r.args, batch: r.batch, messages: r.messages}
	defer r.batch.forget()
	for n < len(data) {
		if err := e.streamRoom(ctx); err != nil {
			return n, err
		}
		window := data[n:min(len(data), n+e.streamWindow())]
		pins := e.streamAhead(window)
		took, more, err := r.window(ctx, data[n:], len(window))
		n += took
		e.mu.Lock()
		for _, p := range pins {
			p.l.Unpin(p.o)
		}
		e.unload(unloadBurst)
		e.mu.Unlock()
		var broken *partialError
		if errors.As(err, &broken) {
			return n, e.undoPartial(ctx, broken)
		}
		if r.mark != "" {
			e.markHere(ctx, r.mark)
			r.mark = ""
		}
		if err != nil || !more {
			return n, err
		}
	}
	return n, nil
}

func (e *Engine) streamWindow() int {
	if budget := int(e.limits.MaxMemory.Load()); budget > 0 {
		return max(min(streamWindow, budget/16), 1)
	}
	return streamWindow
}

// streamRoom waits until a write may be begun: the rules that hold for clients.
func (e *Engine) streamRoom(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !e.replica.Load() {
			return ErrNotReplica
		}
		if msg := e.refuse.Load(); msg != nil {
			return errors.New(*msg)
		}
		e.mu.Lock()
		short := e.roomShort()
		e.mu.Unlock()
		if !short {
			if end := e.log.End(); e.log.Pending() > streamPending {
				return e.log.WaitWritten(ctx, end-streamPending)
			}
			return nil
		}
		var err error
		if e.opts.Manual { // nobody else writes checkpoints
			err = e.Checkpoint(ctx)
		} else {
			err = e.WaitRoom(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// streamAhead reads the cold keys that a piece of the stream names, without the lock, and pins them.
func (e *Engine) streamAhead(data []byte) (pins []pin) {
	for range streamTries {
		e.Lock()
		scan, more := coldScan{e: e, rest: data, db: e.bufDB}, e.anyCold()
		e.Unlock()
		for more {
			e.Lock()
			more = scan.next(streamScan)
			e.Unlock()
		}
		loads := scan.sorted()
		if len(loads) == 0 {
			break
		}
		e.readAll(loads)
		done := len(pins)
		for part := range slices.Chunk(loads, streamInstall) {
			e.Lock()
			pins = append(pins, install(part)...)
			e.Unlock()
		}
		if len(pins)-done == len(loads) {
			break
		}
	}
	return pins
}

// window applies the records that begin in the first size bytes of data, and tells how many bytes they are and whether all
// that begin there were whole.
func (r *Replayer) window(ctx context.Context, data []byte, size int) (n int, more bool, err error) {
	r.batch.drop()
	for n < size {
		if err := ctx.Err(); err != nil {
			return n, false, err
		}
		took, more, err := r.hold(data[n:], size-n)
		n += took
		if err != nil || !more || r.mark != "" {
			return n, more, err
		}
		if r.e.opts.between != nil {
			r.e.opts.between()
		}
	}
	return n, true, nil
}

// hold applies records for one hold of the lock, and appends what it has applied.
func (r *Replayer) hold(data []byte, size int) (n int, more bool, err error) {
	e := r.e
	e.Lock()
	defer e.Unlock()
	e.commit()
	own := e.buf
	defer func() {
		// The effects of this hold are the stream's own bytes (R1). The log takes a copy.
		if e.buf = data[:n:n]; e.commit() {
			e.log.Kick()
		}
		e.buf = own
	}()
	start := time.Now() // a budget of work, not a matter of the data's clock
	r.db = e.bufDB
	for i := 1; n < size; i++ {
		took, err := r.record(data, n, size)
		n += took
		if err != nil {
			return n, false, err
		}
		if took == 0 {
			return n, false, nil
		}
		if r.mark != "" || n >= streamAppend || i%streamLook == 0 && time.Since(start) >= streamHold || e.opts.batch > 0 && i >= e.opts.batch {
			break
		}
	}
	return n, true, nil
}

// partialError says that a transaction failed after some of its commands had been applied.
type partialError struct{ err error }

func (p *partialError) Error() string { return p.err.Error() }
func (p *partialError) Unwrap() error { return p.err }

// record applies the record at pos of data, whose bytes up to pos are the effects of this hold so far, and makes it one of them;
// 0 if it is not whole. It may look ahead at what begins before size. REQUIRES: the lock.
func (r *Replayer) record(data []byte, pos, size int) (n int, err error) {
	e := r.e
	e.buf = data[:pos:pos]
	at := e.logEnd + wal.Offset(pos)
	p := r.batch.pop()
	if p == nil && r.lookAhead(data[pos:], size-pos) {
		p = r.batch.pop()
	}
	if p == nil {
		if r.args, n, err = wal.AppendArgs(r.args[:0], data[pos:]); err != nil {
			return 0, &ReplayError{at, err}
		}
		if n == 0 {
			return 0, nil
		}
	}
	db := r.db
	defer r.forget()
	switch {
	case p != nil:
		n, err = p.size, r.applyParsed(p)
	case isWord(r.args, "MULTI"):
		n, err = r.transaction(data[pos:], n)
	default:
		err = r.apply(r.args)
	}
	if err != nil || n == 0 {
		r.db = db
		var broken *partialError
		if err != nil && !errors.As(err, &broken) {
			err = &ReplayError{at, err}
		}
		return 0, err
	}
	if e.disk.broken.Load() {
		// The store could not be read, so what was applied may be wrong: it must not be taken for done.
		return 0, &partialError{&ReplayError{at, errors.New(e.WriteError())}}
	}
	e.buf = data[: pos+n : pos+n]
	e.streamDB = r.db
	e.setNextOff()
	r.tell()
	return n, nil
}

// transaction applies what follows a MULTI of head bytes up to its EXEC, and returns the size of it all; 0 if EXEC is not
// there yet. Nothing is applied before all of it has been looked at.
func (r *Replayer) transaction(data []byte, head int) (n int, err error) {
	var args [][]byte
	for n = head; ; {
		var took int
		if args, took, err = wal.AppendArgs(args[:0], data[n:]); err != nil {
			return 0, err
		}
		if took == 0 {
			return 0, nil
		}
		n += took
		if isWord(args, "EXEC") {
			break
		}
		if _, err := r.spec(args); err != nil && !isSelect(args) {
			return 0, err
		}
	}
	applied := false
	for pos := head; pos < n; {
		var took int
		if args, took, err = wal.AppendArgs(args[:0], data[pos:n]); err != nil {
			return 0, err
		}
		if err := r.apply(args); err != nil {
			if applied {
				err = &partialError{&ReplayError{r.e.logEnd + wal.Offset(len(r.e.buf)), err}}
			}
			return 0, err
		}
		applied = true
		pos += took
	}
	return n, nil
}

// undoPartial rebuilds memory from store and log, which have nothing of the record that failed in its middle.
func (e *Engine) undoPartial(ctx context.Context, broken *partialError) error {
	if e.disk.broken.Load() {
		return broken.err // the store cannot be read: only a restart helps
	}
	e.logger.Error("a transaction of the primary's could not be applied, memory is rebuilt without it", "error", broken.err)
	if err := e.rebuild(ctx); err != nil {
		return fmt.Errorf("%w; rebuilding memory: %w", broken.err, err)
	}
	return broken.err
}

// isWord tells whether args is the one word, in any case.
func isWord(args [][]byte, word string) bool {
	if len(args) != 1 || len(args[0]) != len(word) {
		return false
	}
	for i, c := range args[0] {
		if c&^0x20 != word[i] {
			return false
		}
	}
	return true
}
