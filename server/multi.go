package server

import (
	"slices"
	"strconv"
	"unsafe"

	"github.com/holdfast-db/holdfast/server/command"
	"github.com/holdfast-db/holdfast/server/engine"
	"github.com/holdfast-db/holdfast/server/reply"
)

// transaction is the state of MULTI on one connection.
type transaction struct {
	active bool
	broken bool // a command was refused while queueing: EXEC answers EXECABORT
	writes bool
	// needsLink: a command of it is refused by a replica whose link is down.
	needsLink bool
	queue     []engine.Queued
	bytes     int64 // memory of the queued arguments
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
	if spec.Name == "ping" {
		q.Session = func(*reply.Writer) { s.cmdPing(q.Args) } // what it answers depends on subscriptions
	} else if spec.Handler == nil {
		h := s.srv.handlers[spec.ID]
		q.Session = func(*reply.Writer) { h.run(s, spec, q.Args) }
	}
	s.multi.queue = append(s.multi.queue, q)
	s.multi.bytes += int64(size) + int64(len(args))*int64(unsafe.Sizeof(q.Args[0]))
	s.multi.writes = s.multi.writes || spec.Write()
	s.multi.needsLink = s.multi.needsLink || s.needsLink(spec)
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

// cmdExec runs the transaction under one hold of the lock, but for commands that cannot run under it (sessionHandler.cuts).
// On the loop it reports again where anything has to wait, and has done nothing then.
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
	to := s.nextCut(queue, 0)
	if !s.offLoop && (to < len(queue) || s.mayWait(queue)) {
		return again
	}
	st, err := s.execPart(queue[:to], func() engine.Status { return s.eng.RunMulti(s.cl, queue, to, w) })
	if err == nil && (st == engine.StatusCold || st == engine.StatusRoom) {
		return again
	}
	if err != nil {
		s.failed(w, err)
		s.discard()
		return done
	}
	if st == engine.StatusDone {
		s.execRest(queue, to)
		s.countQueued(queue)
	}
	s.multi = transaction{}
	s.queued.Store(-1)
	s.dirtyExec.Store(false)
	s.watching.Store(false)
	return done
}

// nextCut returns the index of the first command from there on for which the lock has to be let go of, len(queue) if there is
// none.
func (s *session) nextCut(queue []engine.Queued, from int) int {
	for i := from; i < len(queue); i++ {
		if queue[i].Session != nil && s.srv.handlers[queue[i].Spec.ID].cuts(s, queue[i].Args) {
			return i
		}
	}
	return len(queue)
}

// mayWait tells whether a command of the transaction takes long enough to keep off the loop.
func (s *session) mayWait(queue []engine.Queued) bool {
	for i := range queue {
		if queue[i].Session != nil && s.srv.handlers[queue[i].Spec.ID].mode == waits {
			return true
		}
	}
	return false
}

// execPart runs commands of the transaction under one hold of the lock. Off the loop it waits for what the engine asks for
// first; on the loop it reports that (engine.StatusCold, engine.StatusRoom), without the lock.
func (s *session) execPart(part []engine.Queued, run func() engine.Status) (engine.Status, error) {
	configures := slices.ContainsFunc(part, func(q engine.Queued) bool { return q.Spec.FullName == "config|set" })
	for {
		if configures { // it comes before the executor lock
			s.unlock()
			s.srv.configSet.Lock()
		}
		s.lock()
		st := run()
		if configures {
			s.srv.configSet.Unlock()
		}
		if st == engine.StatusDone || st == engine.StatusAborted {
			s.inSlice += len(part)
			return st, nil
		}
		s.unlock()
		if !s.offLoop {
			return st, nil
		}
		var err error
		if st == engine.StatusRoom {
			err = s.eng.WaitRoom(s.ctx)
		} else {
			err = s.eng.WarmMulti(s.ctx, s.cl, part)
		}
		if err != nil {
			return st, err
		}
	}
}

// execRest runs what follows the first part of a transaction: at is a command for which the lock has to be let go of, or the
// end. REQUIRES: off the loop, unless at is the end.
func (s *session) execRest(queue []engine.Queued, at int) {
	w := s.conn.Out()
	for at < len(queue) {
		s.unlock()
		q := &queue[at]
		s.srv.handlers[q.Spec.ID].run(s, q.Spec, q.Args)
		from := at + 1
		at = s.nextCut(queue, from)
		part := queue[from:at]
		if len(part) == 0 {
			continue
		}
		if _, err := s.execPart(part, func() engine.Status { return s.eng.RunMore(s.cl, part, w) }); err != nil {
			for range queue[from:] { // the array of replies has been begun
				s.failed(w, err)
			}
			return
		}
	}
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
