package server

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-db/holdfast/replication"
	"github.com/holdfast-db/holdfast/server/command"
	"github.com/holdfast-db/holdfast/server/engine"
	"github.com/holdfast-db/holdfast/server/pubsub"
	"github.com/holdfast-db/holdfast/server/reply"
)

// This file is the hot path: commands that have arrived on a connection are executed in slices, each under one hold of
// the engine's lock. After a slice the session tells its connection which offset the replies depend on (A1).
//
// On the loop nothing may wait. A command that has to (a key is on disk, memory is full of changes, BLPOP finds
// nothing, SAVE) makes OnData return handOff; Continue then executes it, and whatever follows in the buffer, off the
// loop.

// sliceCommands bounds the commands executed under one hold of the lock, so that a long pipeline delays other
// connections and the checkpointer by some tens of microseconds at most. Larger saves little: a hold costs two readings
// of the clock and an append.
const sliceCommands = 64

// session is the state of one client connection. All but shown and the atomics belong to the owner of the connection.
type session struct {
	srv  *Server
	eng  *engine.Engine
	conn *Conn
	cl   *engine.Client
	ctx  connContext

	authed  bool
	quit    bool // nothing more is executed
	monitor bool
	pubsub  bool // it has subscriptions
	multi   transaction
	reply   replyMode

	locked  bool // this session holds the engine's lock
	inSlice int  // commands since it took it
	offLoop bool // runs in Continue, where it may wait
	batch   *batch
	clock   int64 // monotonic ns when the last command ended

	// What OnData leaves to Continue: a command not begun, or one that is parked in the engine.
	pending [][]byte
	parked  *command.Spec

	replica *replication.Request // what it said about itself as a replica; nil: nothing

	// What has been parsed and not executed: ahead[next:], then, if not nil, malformed input.
	ahead     []parsed
	next      int
	malformed error

	// shown is what other connections may look at.
	shown struct {
		sync.Mutex
		name, lib, libVer string
		noEvict, noTouch  bool
	}
	sub       *pubsub.Client
	lastCmd   atomic.Pointer[command.Spec]
	db        atomic.Int32
	proto     atomic.Int32
	queued    atomic.Int32 // commands in MULTI; -1 = no MULTI
	watching  atomic.Bool
	dirtyExec atomic.Bool
	blocked   atomic.Bool
	monitors  atomic.Bool

	// Client-side caching, see tracking.go. track is changed by the owner under the engine's lock; the atomics are for others.
	track         trackMode
	caching       bool         // CLIENT CACHING, for the next command
	pushes        []byte       // invalidations of what this client itself has changed: behind the reply
	trackRedirect atomic.Int64 // -1: tracking is off
	trackBroken   atomic.Bool
	trackBcast    atomic.Bool
	waits         atomic.Pointer[waiting] // a WAIT under way
}

// replyMode is the state of CLIENT REPLY.
type replyMode struct {
	off      bool
	skipThis bool
	skipNext bool
	from     int    // what stands before in the output is sent: replies of the transaction that has switched them off
	pushed   []byte // pushes within the reply that is dropped
}

// connContext is done when the connection is.
type connContext struct{ done <-chan struct{} }

func (c connContext) Deadline() (time.Time, bool) { return time.Time{}, false }
func (c connContext) Done() <-chan struct{}       { return c.done }
func (c connContext) Value(any) any               { return nil }
func (c connContext) Err() error {
	select {
	case <-c.done:
		return context.Canceled
	default:
		return nil
	}
}

var batches = sync.Pool{New: func() any { return new(batch) }}

// newSession is called by the network layer for each connection it has accepted.
func (srv *Server) newSession(c *Conn) connHandler {
	s := &session{srv: srv, eng: srv.eng, conn: c, cl: srv.eng.NewClient(), ctx: connContext{c.Done()}}
	s.sub = pubsub.NewClient(s)
	s.cl.Owner = s
	s.trackRedirect.Store(-1)
	s.resetAuth()
	s.queued.Store(-1)
	s.proto.Store(2)
	srv.clients.add(s)
	return s
}

// resetAuth makes the client what a new one is: authenticated if there is no password.
func (s *session) resetAuth() {
	s.authed = *s.srv.password.Load() == ""
	s.conn.Guard().SetAuthenticated(s.authed)
}

// OnData executes what has arrived.
func (s *session) OnData(*Conn) (handOff bool) { return s.run(false) }

// Continue executes what OnData could not, and what follows it.
func (s *session) Continue(*Conn) { s.run(true) }

// OnClose forgets the client.
func (s *session) OnClose(_ *Conn, err error) {
	s.srv.monitorHub.remove(s)
	s.srv.hub.Leave(s.sub, func() {})
	s.srv.clients.remove(s)
	if s.track.on {
		s.eng.Lock()
		s.srv.tracker.disable(s)
		s.eng.Unlock()
	}
	s.eng.CloseClient(s.cl)
	s.srv.log.Debug("client closed", "addr", s.conn.RemoteAddr(), "reason", err)
}

func (s *session) run(mayWait bool) (handOff bool) {
	s.batch = batches.Get().(*batch)
	s.offLoop = mayWait
	s.clock = monotonic()
	if s.parked != nil {
		if !mayWait {
			handOff = true // earlier replies have left, see yield
		} else {
			s.await(s.parked, s.pending)
		}
	} else if s.pending != nil {
		args := s.pending
		s.pending = nil
		handOff = s.step(s.lookup(args), args, mayWait)
	}
	for !handOff && !s.quit {
		if s.next == len(s.ahead) && !s.lookAhead() {
			break
		}
		c := s.ahead[s.next]
		s.ahead[s.next] = parsed{}
		s.next++
		s.cl.Raw = c.raw
		handOff = s.step(c.spec, c.args, mayWait)
		s.cl.Raw = nil
		if s.inSlice >= sliceCommands && s.locked {
			s.unlock()
			if s.conn.OutputOver() {
				s.quit = true
				s.conn.closeWith(ErrOutputLimit)
				break
			}
		}
	}
	s.unlock()
	s.srv.stats.merge(s.batch)
	batches.Put(s.batch)
	s.batch = nil
	return handOff
}

// parsed is a command that has been parsed and not yet been executed.
type parsed struct {
	spec *command.Spec // nil: unknown
	args [][]byte
	raw  []byte // see Guard.Raw
}

// maxAhead bounds the commands that are parsed before the first of them runs.
const maxAhead = 16

// lookAhead parses the next commands, and brings what they name into the processor's cache together: one after the other
// each would wait for memory. It tells whether there is anything to run. A command of the session's own ends the look
// ahead, since it may change how what follows is read. What was parsed is executed before the guard gets new input.
func (s *session) lookAhead() bool {
	guard := s.conn.Guard()
	s.next, s.ahead = 0, s.ahead[:0]
	if s.malformed != nil {
		s.protocolError(s.malformed)
		return false
	}
	b := s.batch
	b.keys, b.elems = b.keys[:0], b.elems[:0]
	for len(s.ahead) < maxAhead {
		args, err := guard.Next()
		if err != nil {
			s.malformed = err
			break
		}
		if args == nil {
			break
		}
		spec := s.lookup(args)
		s.ahead = append(s.ahead, parsed{spec, args, guard.Raw()})
		if spec == nil || spec.Handler == nil || !s.authed || s.multi.active {
			break
		}
		b.keys, b.elems = spec.AppendKeys(b.keys, b.elems, args, maxPrefetchKeys)
	}
	if len(s.ahead) == 0 {
		if s.malformed != nil {
			s.protocolError(s.malformed)
		}
		return false
	}
	if len(b.keys) > 1 {
		s.lock()
		s.eng.Prefetch(s.cl, b.keys, b.elems)
	}
	clear(b.keys)
	clear(b.elems)
	return true
}

// maxPrefetchKeys bounds the keys that one look ahead gathers.
const maxPrefetchKeys = 64

func (s *session) lookup(args [][]byte) *command.Spec { return s.srv.names.lookup(args[0]) }

// lock takes the engine's lock unless this session has it already.
func (s *session) lock() {
	if !s.locked {
		s.eng.Lock()
		s.locked = true
		s.inSlice = 0
	}
}

// unlock ends a slice: the effects go to the log, and the replies written so far wait for what they have seen (A1).
func (s *session) unlock() {
	if !s.locked {
		return
	}
	s.locked = false
	seen := s.eng.Seen()
	if s.offLoop {
		s.eng.Unlock()
	} else if s.eng.UnlockQuietly() {
		s.srv.kickDue.Store(true) // by batchEnd, once for all connections of this turn
	}
	if seen == 0 {
		return
	}
	s.conn.Hold(int64(seen))
	if s.srv.logFailed.Load() {
		s.quit = true
		s.conn.Close()
	}
}

// step executes one command, row being what the table has under its name, and accounts for it. It returns true if the command has to wait and must not here: it is
// then left in pending.
func (s *session) step(row *command.Spec, args [][]byte, mayWait bool) (handOff bool) {
	w := s.conn.Out()
	if s.pubsub || s.track.on {
		s.conn.TakeAsync() // what was published or invalidated before comes before the reply
	}
	if row == nil && speaksHTTP(args[0]) {
		s.endHTTP()
		return false
	}
	start := w.Len()
	spec, refusal := s.admit(row, args)
	if refusal != "" {
		s.refuse(spec, refusal, start)
		return false
	}
	if s.srv.pause.active.Load() && s.srv.pause.holds(spec, &s.multi) && !s.monitor {
		s.unlock()
		if !mayWait || w.Len() > 0 {
			s.yield(args)
			return true
		}
		s.blocked.Store(true)
		s.conn.SetParked(true)
		s.srv.pause.wait(s.ctx)
		s.conn.SetParked(false)
		s.blocked.Store(false)
		if s.ctx.Err() != nil {
			return false
		}
		s.clock = monotonic()
	}
	if s.multi.active && !bypassesQueue(spec) {
		s.enqueue(spec, args)
		s.finishReply(start)
		return false
	}
	if s.lastCmd.Load() != spec {
		s.lastCmd.Store(spec)
	}
	errs := w.Errors()
	if s.pubsub && spec.Name == "ping" {
		s.cmdPing(args)
	} else if spec.Handler != nil {
		if s.lock(); s.inSlice >= 0 {
			s.inSlice++
		}
		switch st := s.eng.Run(s.cl, spec, args, w); st {
		case engine.StatusDone:
		case engine.StatusBlocked:
			s.unlock()
			s.blocked.Store(true)
			s.parked, s.pending = spec, args
			if !mayWait || w.Len() > 0 {
				s.yield(args)
				return true
			}
			s.await(spec, args)
			return false
		default:
			s.unlock()
			if !mayWait {
				s.pending = args
				return true
			}
			if err := s.prepare(st, spec, args); err != nil {
				s.failed(w, err)
				break
			}
			return s.step(row, args, true)
		}
	} else {
		h := s.srv.handlers[spec.ID]
		if h.mode != anywhere {
			s.unlock()
		}
		if h.mode == waits {
			if !mayWait || w.Len() > 0 {
				s.yield(args)
				return true
			}
			s.conn.SetParked(true)
			defer s.conn.SetParked(false)
		}
		if h.run(s, spec, args) == again { // EXEC has to wait; off the loop it does that itself
			s.pending = args
			return true
		}
	}
	s.account(spec, args, start, errs)
	return false
}

// yield leaves a command that waits in pending: to Continue, or, in Continue, to the next one, so that the replies of the
// commands before it can leave first.
func (s *session) yield(args [][]byte) {
	if s.offLoop {
		s.conn.Yield()
		for i, a := range args { // they lie in a buffer that is kept until Continue returns
			args[i] = bytes.Clone(a)
		}
	}
	s.pending = args
}

// prepare does what the engine asked for before a command can run. REQUIRES: off the loop, not locked.
func (s *session) prepare(st engine.Status, spec *command.Spec, args [][]byte) error {
	if st == engine.StatusRoom {
		return s.eng.WaitRoom(s.ctx)
	}
	return s.eng.Warm(s.ctx, s.cl, spec, args)
}

// failed answers a command whose keys could not be read from disk.
func (s *session) failed(w *reply.Writer, err error) {
	if errors.Is(err, context.Canceled) {
		s.quit = true
		return
	}
	s.srv.log.Error("command not executed", "error", err)
	w.Error("ERR " + err.Error())
}

// await waits for a parked command. REQUIRES: off the loop, not locked.
func (s *session) await(spec *command.Spec, args [][]byte) {
	w := s.conn.Out()
	start, errs := w.Len(), w.Errors()
	s.conn.SetParked(true)
	need, err := s.eng.Wait(s.ctx, s.cl, w)
	s.conn.SetParked(false)
	s.parked, s.pending = nil, nil
	s.blocked.Store(false)
	if err != nil {
		s.quit = true
		return
	}
	if need > 0 {
		s.conn.Hold(int64(need))
	}
	s.clock = monotonic() // the time waited is not the command's
	s.account(spec, args, start, errs)
}

// account counts an executed command, shows it to monitors and settles its reply.
func (s *session) account(spec *command.Spec, args [][]byte, start, errs int) {
	now := monotonic()
	took := now - s.clock
	s.clock = now
	w := s.conn.Out()
	failed := w.Errors() > errs
	b := s.batch
	b.calls[b.n] = call{id: int32(spec.ID), failed: failed, took: took}
	if b.n++; b.n == len(b.calls) {
		s.srv.stats.merge(b)
	}
	if failed {
		s.srv.stats.failure(w.LastError())
	}
	if limit := s.srv.slowlog.threshold.Load(); took >= limit && limit >= 0 && spec.Flags&command.FlagSkipSlowlog == 0 {
		s.srv.noteSlow(s, time.Duration(took), spec, args)
	}
	if s.srv.latency.thresholdMs.Load() > 0 {
		s.srv.noteLatency(spec, time.Duration(took))
	}
	if s.srv.monitorHub.active.Load() && spec.Flags&(command.FlagSkipMonitor|command.FlagAdmin) == 0 {
		s.srv.monitorHub.feed(s, spec, args)
	}
	s.endCaching(spec)
	s.finishReply(start)
}

// finishReply drops the reply of a client that asked for none, and puts behind it what the client is told of its own changes.
func (s *session) finishReply(start int) {
	s.dropReply(start)
	if len(s.pushes) > 0 {
		s.conn.Out().Raw(s.pushes)
		s.pushes = s.pushes[:0]
	}
}

// dropReply keeps the pushes among what it drops.
func (s *session) dropReply(start int) {
	r := &s.reply
	if !r.off && !r.skipThis && !r.skipNext {
		return
	}
	if r.off || r.skipThis {
		s.conn.Out().Truncate(max(start, r.from))
		s.conn.Out().Raw(r.pushed)
		r.from, r.pushed = 0, nil
	}
	r.skipThis, r.skipNext = r.skipNext, false
}

// protocolError answers malformed input, as Redis does, and closes.
func (s *session) protocolError(err error) {
	s.quit = true
	var pe *ProtocolError
	if errors.As(err, &pe) {
		s.unlock()
		s.conn.Out().Error(pe.Text)
		s.srv.stats.failure(pe.Text)
		s.conn.CloseAfterFlush()
		return
	}
	s.conn.Close()
}
