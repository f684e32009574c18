package server

import (
	"strconv"
	"unsafe"

	"github.com/holdfast-db/holdfast/server/command"
	"github.com/holdfast-db/holdfast/server/engine"
	"github.com/holdfast-db/holdfast/server/reply"
)

// transaction is the state of MULTI on one connection.
type transaction struct {
	active  bool
	broken  bool // a command was refused while queueing: EXEC answers EXECABORT
	writes  bool
	queue   []engine.Queued
	outside map[int]bool  // entries of queue that runOutside has run
	bytes   int64         // memory of the queued arguments
	wait    engine.Status // what the engine wants done before EXEC: StatusCold or StatusRoom
}

// bypassesQueue tells whether a command runs at once inside MULTI.
func bypassesQueue(spec *command.Spec) bool {
	if spec.Group != "transactions" && spec.Group != "connection" {
		return false
	}
	switch spec.FullName {
	case "exec", "discard", "multi", "watch", "quit", "reset":
		return true
	}
	return false
}

// enqueue copies a command into the transaction: its arguments lie in the connection's buffer.
func (s *session) enqueue(spec *command.Spec, args [][]byte) {
	size := 0
	for _, a := range args {
		size += len(a)
	}
	buf := make([]byte, 0, size)
	q := engine.Queued{Spec: spec, Args: make([][]byte, len(args))}
	for i, a := range args {
		n := len(buf)
		buf = append(buf, a...)
		q.Args[i] = buf[n:len(buf):len(buf)]
	}
	if spec.Handler == nil {
		h := s.srv.handlers[spec.ID]
		q.Session = func(*reply.Writer) { h.run(s, spec, q.Args) }
	}
	s.multi.queue = append(s.multi.queue, q)
	s.multi.bytes += int64(size) + int64(len(args))*int64(unsafe.Sizeof(q.Args[0]))
	s.multi.writes = s.multi.writes || spec.Write()
	s.queued.Store(int32(len(s.multi.queue)))
	s.conn.Out().Simple("QUEUED")
}

// discard ends the transaction and forgets the watched keys.
func (s *session) discard() {
	s.multi = transaction{}
	s.queued.Store(-1)
	s.dirtyExec.Store(false)
	s.unwatch()
}

func (s *session) unwatch() {
	if !s.watching.Load() {
		return
	}
	s.withLock(func() { s.eng.Unwatch(s.cl) })
	s.watching.Store(false)
}

// withLock runs fn under the engine's lock, which may be held already (a session command inside a transaction, or within
// a slice).
func (s *session) withLock(fn func()) {
	if s.locked {
		fn()
		return
	}
	s.eng.Lock()
	fn()
	s.eng.Unlock()
}

func (s *session) cmdMulti(_ [][]byte) {
	w := s.conn.Out()
	if s.multi.active {
		w.Error(reply.MultiNested)
		return
	}
	s.multi.active = true
	s.queued.Store(0)
	w.OK()
}

func (s *session) cmdDiscard(_ [][]byte) {
	w := s.conn.Out()
	if !s.multi.active {
		w.Error(reply.DiscardNoMulti)
		return
	}
	s.discard()
	w.OK()
}

// cmdExec runs the transaction: all of it under one hold of the lock.
func (s *session) cmdExec(_ *command.Spec, _ [][]byte) outcome {
	w := s.conn.Out()
	if !s.multi.active {
		w.Error(reply.ExecWithoutMulti)
		return done
	}
	if s.multi.broken {
		w.Error(reply.ExecAbort)
		s.discard()
		return done
	}
	queue := s.multi.queue
	if !s.runOutside() {
		return again
	}
	start := w.Len()
	s.lock()
	st := s.eng.RunMulti(s.cl, queue, w)
	switch st {
	case engine.StatusCold, engine.StatusRoom:
		s.unlock()
		w.Truncate(start)
		s.multi.wait = st
		return again
	}
	s.inSlice += len(queue)
	s.countQueued(queue)
	s.multi = transaction{}
	s.queued.Store(-1)
	s.dirtyExec.Store(false)
	s.watching.Store(false)
	return done
}

// runOutside runs those commands of the transaction that cannot run under the engine's lock since they take it themselves
// (INFO, CONFIG SET …): just before the transaction instead of within. Their replies take their places in it. It reports
// false if one of them may wait and this is the loop.
func (s *session) runOutside() bool {
	w := s.conn.Out()
	for i := range s.multi.queue {
		q := &s.multi.queue[i]
		if q.Session == nil || s.multi.outside[i] {
			continue
		}
		h := s.srv.handlers[q.Spec.ID]
		if h.mode == anywhere {
			continue
		}
		s.unlock()
		if h.mode == waits && !s.offLoop {
			s.multi.wait = engine.StatusDone // nothing to prepare but to leave the loop
			return false
		}
		start := w.Len()
		h.run(s, q.Spec, q.Args)
		text := append([]byte(nil), w.Bytes()[start:]...)
		w.Truncate(start)
		q.Session = func(w *reply.Writer) { w.Raw(text) }
		if s.multi.outside == nil {
			s.multi.outside = map[int]bool{}
		}
		s.multi.outside[i] = true
	}
	return true
}

// countQueued counts the commands of a transaction. Their times are not measured one by one.
func (s *session) countQueued(queue []engine.Queued) {
	for i := range queue {
		b := s.batch
		b.calls[b.n] = call{id: int32(queue[i].Spec.ID)}
		if b.n++; b.n == len(b.calls) {
			s.srv.stats.merge(b)
		}
		if s.srv.monitorHub.active.Load() && queue[i].Spec.Flags&(command.FlagSkipMonitor|command.FlagAdmin) == 0 {
			s.srv.monitorHub.feed(s, queue[i].Spec, queue[i].Args)
		}
	}
}

func (s *session) cmdWatch(args [][]byte) {
	w := s.conn.Out()
	if s.multi.active {
		w.Error(reply.WatchInMulti)
		return
	}
	s.withLock(func() {
		for _, key := range args[1:] {
			s.eng.Watch(s.cl, key)
		}
	})
	s.watching.Store(true)
	w.OK()
}

func (s *session) cmdUnwatch(_ [][]byte) {
	s.unwatch()
	s.conn.Out().OK()
}

func (s *session) cmdSelect(args [][]byte) {
	w := s.conn.Out()
	n, ok := command.ParseInt(args[1])
	if !ok {
		w.Error(reply.NotInt)
		return
	}
	if n != int64(int32(n)) {
		w.Error(reply.IntOutOfRange)
		return
	}
	if n < 0 || n >= int64(s.srv.databases) {
		w.Error(reply.DBIndexOutOfRange)
		return
	}
	s.setDB(int(n))
	w.OK()
}

func (s *session) setDB(n int) {
	s.cl.DB = n
	s.db.Store(int32(n))
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
