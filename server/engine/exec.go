package engine

// The write path, told whole.
//
// A session holds the executor lock for a slice of its pipeline. For each command the handler changes the keyspace and
// says what goes to the log: the command as it was sent or deterministic effects. These bytes gather in Engine.buf, and
// Unlock appends them to the log in one piece, still under the lock, so that the log's order is the order of execution.
// Two plain steps, then: change, append. Three rules follow:
//
//   - A2: between the first change and the append no error can return. Append is a copy into memory; whether the log may
//     take writes at all was asked before the handler ran.
//   - A1: a reply leaves only when all that it wrote or saw is durable. Every object knows the newest record that changed
//     it; Seen is the newest of those touched in this hold, and the session holds its output until the log's durable
//     offset has reached it.
//   - D1: what is appended is applied again by replay, so it says what happened, never what was asked: no clock, no
//     random choice, no configuration.
//
// The complication is cold keys. A command whose keys are not all known to memory is not begun: Run reports StatusCold,
// the session lets go of the lock, Warm reads the rows and pins them, and Run is called again.

import (
	"time"

	"github.com/holdfast-db/holdfast/server/command"
	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/server/reply"
	"github.com/holdfast-db/holdfast/wal"
)

// Status is what became of a command.
type Status uint8

const (
	// StatusDone: executed, its reply is written.
	StatusDone Status = iota
	// StatusCold: not begun; Unlock, Warm, Lock, and try again.
	StatusCold
	// StatusBlocked: the client waits for a key; no reply yet. Unlock, then Wait.
	StatusBlocked
	// StatusRoom: not begun, memory is full of changes that no checkpoint has written yet. Unlock, WaitRoom, try again.
	StatusRoom
	// StatusAborted: a transaction does not run, since a watched key has changed or writes are refused. Its reply is written.
	StatusAborted
)

// Queued is a command of a transaction. Args must stay valid until RunMulti has returned.
type Queued struct {
	Spec *command.Spec
	Args [][]byte
	// Session runs a command that has no handler of its own (a session command inside MULTI), under the lock.
	Session func(w *reply.Writer)
}

// Lock takes the executor lock.
func (e *Engine) Lock() {
	if !e.mu.TryLock() {
		// One spins, the others sleep: among many they would only keep each other from running.
		if e.wanted.Add(1) > 1 || !e.spin() {
			e.mu.Lock()
		}
		e.wanted.Add(-1)
	}
	e.begin()
}

// spinTries and spinPause are for how long Lock spins: 300 times some 150 ns.
const (
	spinTries = 300
	spinPause = 300
)

// spin tries for a moment to get the lock without sleeping. A checkpoint, the one that most often has it, holds it for some
// 50 µs and steps back when it sees that it is wanted; falling asleep and being woken takes as long, and takes an event
// loop off its processor.
func (e *Engine) spin() bool {
	if e.oneCore {
		return false
	}
	for range spinTries {
		for range spinPause {
		}
		if e.mu.TryLock() {
			return true
		}
	}
	return false
}

func (e *Engine) begin() {
	now := e.now()
	e.lockedAt = now
	e.ctx.Now = now.UnixMilli()
	e.ks.Clock = uint32(now.Unix())
	e.ks.Seen = 0
	e.ks.NoTouch = false
	e.by = nil
	e.setNextOff()
}

// Executing returns the client whose command runs or ran last in this hold, nil if there is none. REQUIRES: the lock.
func (e *Engine) Executing() *Client { return e.by }

func (e *Engine) setNextOff() { e.ks.NextOff = int64(e.logEnd) + int64(len(e.buf)) + 1 }

// Unlock appends what was executed to the log, lets go of the lock, and wakes the log's committer.
func (e *Engine) Unlock() {
	if e.UnlockQuietly() {
		e.log.Kick()
	}
}

// UnlockQuietly is Unlock that does not wake the committer: an event loop calls Kick once at the end of its round, so that
// all that its clients wrote shares one sync. It tells whether a Kick is due.
func (e *Engine) UnlockQuietly() bool {
	wrote := e.commit()
	if e.observer != nil {
		e.observer.Released()
	}
	e.maxHold.observe(e.now().Sub(e.lockedAt))
	e.mu.Unlock()
	return wrote
}

// Kick wakes the log's committer.
func (e *Engine) Kick() { e.log.Kick() }

// CommitNow makes durable what was appended, on the caller's goroutine, where that serves better than Kick, and tells whether
// it has (wal.Log.CommitNow).
func (e *Engine) CommitNow() bool { return e.log.CommitNow() }

// commit hands the effects of this hold to the log and tells whether there were any. REQUIRES: mu.
func (e *Engine) commit() bool {
	if len(e.buf) == 0 {
		return false
	}
	e.logEnd = e.log.Append(e.buf, e.bufDB, e.streamDB)
	if cap(e.buf) > maxKeptBuffer {
		e.buf = nil
	} else {
		e.buf = e.buf[:0]
	}
	if e.streamDB >= 0 {
		e.bufDB = e.streamDB
	}
	if e.checkpointDue() {
		e.askCheckpoint()
	}
	return true
}

// maxKeptBuffer is the largest effect buffer in bytes that is kept for the next hold.
const maxKeptBuffer = 1 << 20

// Seen returns the offset that must be durable before the replies given since Lock may leave (A1); 0 if none must wait.
// REQUIRES: the lock.
func (e *Engine) Seen() wal.Offset {
	if !e.unreleased(wal.Offset(e.ks.Seen)) {
		return 0
	}
	return wal.Offset(e.ks.Seen)
}

// Now returns the time of this hold in unix ms. REQUIRES: the lock.
func (e *Engine) Now() int64 { return e.ctx.Now }

// Run executes one data command. REQUIRES: the lock.
func (e *Engine) Run(cl *Client, spec *command.Spec, args [][]byte, w *reply.Writer) Status {
	if spec.Flags&command.FlagWrite != 0 {
		if e.replica.Load() {
			w.Error(reply.ReadOnly)
			return StatusDone
		}
		if e.refuse.Load() != nil {
			w.Error(*e.refuse.Load())
			return StatusDone
		}
		if msg := e.gate.refusal.Load(); msg != nil {
			w.Error(*msg)
			return StatusDone
		}
		if e.roomShort() {
			return StatusRoom
		}
		if spec.Flags&command.FlagDenyoom != 0 && e.evictShort() && !e.evict() {
			w.Error(reply.OOM)
			return StatusDone
		}
	}
	if e.anyCold() && !e.replaces(e.ks.DB(cl.DB), spec, args) && e.hasCold(cl.DB, spec, args) || spec.Counts && e.ManyBlind() && !cl.counts {
		return StatusCold
	}
	cl.counts = false
	if cl.pinned != nil {
		defer e.unpin(cl)
	}
	c := &e.ctx
	c.DB, c.W = e.ks.DB(cl.DB), w
	c.Reset(spec, args)
	c.Raw = cl.Raw
	c.SetNoBlock(cl.noBlock)
	e.ks.NoTouch = cl.NoTouch && spec.Name != "touch"
	e.by = cl
	spec.Handler(c)
	e.observeRead(cl, spec, args)
	e.finish(cl.DB) // of a command that has to wait, too: keys that it found expired are gone
	if c.BlockWanted().Wanted {
		e.park(cl, spec, args, w.Proto())
		return StatusBlocked
	}
	if len(e.ready) > 0 {
		e.serveReady()
	}
	return StatusDone
}

// finish emits the effects of the command that has just run.
func (e *Engine) finish(db int) {
	c := &e.ctx
	if c.HasChanged() {
		if c.Verbatim() && c.Raw != nil {
			e.emitRaw(db, c.Raw)
		} else if c.Verbatim() {
			e.emit(db, c.Args)
		} else {
			e.beginTxn()
			c.Effects(func(args [][]byte) {
				if len(args) == 2 && string(args[0]) == "SELECT" {
					n, _ := command.ParseInt(args[1]) // written by Ctx from an int
					db = int(n)
					return
				}
				e.emit(db, args)
			})
			e.endTxn()
		}
		e.setNextOff()
	}
	e.ks.AfterCommand()
	if e.events != 0 {
		e.tellNotes()
	}
	if e.observer != nil {
		e.observer.Executed()
	}
}

// emit appends one command to the effects of this hold, and a SELECT before it if the stream stands at another database.
func (e *Engine) emit(db int, args [][]byte) {
	if db != e.streamDB {
		e.emitSelect(db)
	}
	if e.inTxn {
		e.txn = wal.AppendCommand(e.txn, args...)
		e.txnCount++
		return
	}
	e.buf = wal.AppendCommand(e.buf, args...)
}

// emitRaw is emit of a command that is in the log's form already. REQUIRES: no transaction.
func (e *Engine) emitRaw(db int, raw []byte) {
	if db != e.streamDB {
		e.emitSelect(db)
	}
	e.buf = append(e.buf, raw...)
}

// Prefetch brings what memory holds of keys into the processor's cache, for commands that are about to run; elems[i], if not
// nil, is an element of the collection at keys[i]. REQUIRES: the lock.
func (e *Engine) Prefetch(cl *Client, keys, elems [][]byte) { e.ks.DB(cl.DB).Prefetch(keys, elems) }

func (e *Engine) emitSelect(db int) {
	e.streamDB = db
	sel := e.selects[db]
	if sel == nil {
		sel = appendSelect(nil, db)
		e.selects[db] = sel
	}
	if e.inTxn && e.txnCount > 0 {
		e.txn = append(e.txn, sel...)
		e.txnCount++
		return
	}
	e.buf = append(e.buf, sel...)
}

// beginTxn starts gathering commands that form one record: MULTI … EXEC if they turn out to be more than one (W2).
// Calls nest; the outermost decides.
func (e *Engine) beginTxn() {
	e.txnDepth++
	e.inTxn = true
}

func (e *Engine) endTxn() {
	if e.txnDepth--; e.txnDepth > 0 {
		return
	}
	e.inTxn = false
	switch {
	case e.txnCount == 1:
		e.buf = append(e.buf, e.txn...)
	case e.txnCount > 1:
		e.buf = append(e.buf, "*1\r\n$5\r\nMULTI\r\n"...)
		e.buf = append(e.buf, e.txn...)
		e.buf = append(e.buf, "*1\r\n$4\r\nEXEC\r\n"...)
	}
	e.txn, e.txnCount = e.txn[:0], 0
}

// RunMulti executes the first n commands of a transaction under this hold, as one record in the log. n is all of them unless
// one cannot run under the lock; what follows that one is RunMore's. It begins the array of all replies, or writes a null
// array if a watched key has changed. REQUIRES: the lock.
func (e *Engine) RunMulti(cl *Client, queue []Queued, n int, w *reply.Writer) Status {
	if e.watchBroken(cl) {
		e.Unwatch(cl)
		e.unpin(cl)
		w.NullArray()
		return StatusAborted
	}
	if anyWrites(queue) {
		if msg := e.WriteRefusal(); msg != "" {
			e.Unwatch(cl)
			e.unpin(cl)
			w.Error("EXECABORT Transaction discarded because of: " + msg)
			return StatusAborted
		}
		if e.roomShort() {
			return StatusRoom
		}
	}
	if e.anyCold() && len(e.coldOf(cl, queue[:n])) > 0 {
		return StatusCold
	}
	e.Unwatch(cl)
	w.Array(len(queue))
	e.runQueue(cl, queue[:n], "", w)
	return StatusDone
}

// RunMore executes more of a transaction that RunMulti has begun, as a record of its own. Where writes are refused meanwhile,
// each of them answers so: what came before them has happened. REQUIRES: the lock.
func (e *Engine) RunMore(cl *Client, queue []Queued, w *reply.Writer) Status {
	refusal := e.WriteRefusal()
	if refusal == "" && anyWrites(queue) && e.roomShort() {
		return StatusRoom
	}
	if e.anyCold() && len(e.coldOf(cl, queue)) > 0 {
		return StatusCold
	}
	e.runQueue(cl, queue, refusal, w)
	return StatusDone
}

func anyWrites(queue []Queued) bool {
	for i := range queue {
		if queue[i].Spec.Write() {
			return true
		}
	}
	return false
}

// runQueue executes commands of a transaction, all under this hold; refusal, if not "", answers those that write.
func (e *Engine) runQueue(cl *Client, queue []Queued, refusal string, w *reply.Writer) {
	if cl.pinned != nil {
		defer e.unpin(cl)
	}
	c := &e.ctx
	e.beginTxn()
	c.SetNoBlock(true)
	for i := range queue {
		q := &queue[i]
		if q.Session != nil {
			q.Session(w)
			continue
		}
		if refusal != "" && q.Spec.Write() {
			w.Error(refusal)
			continue
		}
		if q.Spec.Flags&command.FlagDenyoom != 0 && e.evictShort() && !e.evict() {
			w.Error(reply.OOM)
			continue
		}
		c.DB, c.W = e.ks.DB(cl.DB), w
		c.Reset(q.Spec, q.Args)
		e.ks.NoTouch = cl.NoTouch && q.Spec.Name != "touch"
		e.by = cl
		q.Spec.Handler(c)
		e.observeRead(cl, q.Spec, q.Args)
		e.finish(cl.DB)
	}
	e.endTxn()
	c.SetNoBlock(false)
	e.setNextOff()
	if len(e.ready) > 0 {
		e.serveReady()
	}
}

// RunInside runs a command that only reads, on behalf of a session command within a transaction. A key that is not in memory
// is read under the lock. REQUIRES: the lock, RunMulti or RunMore under way.
func (e *Engine) RunInside(cl *Client, spec *command.Spec, args [][]byte, w *reply.Writer) {
	c := &e.ctx
	c.DB, c.W = e.ks.DB(cl.DB), w
	c.Reset(spec, args)
	spec.Handler(c)
	e.finish(cl.DB)
}

// refuseWrites makes writes fail with a message from now on; nil lets them through again.
func (e *Engine) refuseWrites(msg *string) { e.refuse.Store(msg) }

// WriteRefusal returns the error that a client's write gets now, "" if it is executed: that of a replica, WriteError, or that of
// SetWriteGate.
func (e *Engine) WriteRefusal() string {
	if e.replica.Load() {
		return reply.ReadOnly
	}
	if msg := e.WriteError(); msg != "" {
		return msg
	}
	if msg := e.gate.refusal.Load(); msg != nil {
		return *msg
	}
	return ""
}

// WriteError returns the error with which writes are refused now, "" if they are not.
func (e *Engine) WriteError() string {
	if msg := e.refuse.Load(); msg != nil {
		return *msg
	}
	return ""
}

// holdMax keeps the longest hold of the lock, decayed by whoever reads it.
type holdMax struct{ ns int64 }

func (h *holdMax) observe(d time.Duration) {
	if int64(d) > h.ns {
		h.ns = int64(d)
	}
}

// DB gives a session command inside the lock access to a database, for DEBUG and INFO.
func (e *Engine) DB(i int) *keyspace.DB { return e.ks.DB(i) }

// Keyspace gives a session command inside the lock access to the keyspace.
func (e *Engine) Keyspace() *keyspace.Keyspace { return e.ks }
