package server

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-db/holdfast/replication"
	"github.com/holdfast-db/holdfast/server/command"
	"github.com/holdfast-db/holdfast/server/reply"
	"github.com/holdfast-db/holdfast/wal"
)

// The commands of replication. REPLICAOF and FAILOVER change the role; PSYNC and SYNC take a connection out of the event loop
// and make it a link.

// cmdReplicaOf takes a host and a port, or NO ONE.
func (s *session) cmdReplicaOf(args [][]byte) {
	w := s.conn.Out()
	r := &s.srv.repl
	if r.failover.active() {
		w.Error("ERR REPLICAOF not allowed while failing over.")
		return
	}
	if isWord(args[1], "no") && isWord(args[2], "one") {
		r.change.Lock()
		defer r.change.Unlock()
		if r.following.Load() == nil {
			w.OK()
			return
		}
		if err := s.srv.lead(s.ctx); err != nil {
			w.Error("ERR " + oneLine(err.Error()))
			return
		}
		r.log.Info(fmt.Sprintf("MASTER MODE enabled (user request from '%s')", s.describe(time.Now())))
		w.OK()
		return
	}
	port, ok := command.ParseInt(args[2])
	if !ok || port < 0 || port > 65535 {
		w.Error("ERR Invalid master port")
		return
	}
	host := string(args[1])
	if host == "" || strings.ContainsAny(host, " \t\r\n\x00") {
		w.Error("ERR Invalid master host")
		return
	}
	t := replication.Target{Host: host, Port: int(port)}
	r.change.Lock()
	defer r.change.Unlock()
	if r.failover.active() {
		w.Error("ERR REPLICAOF not allowed while failing over.")
		return
	}
	if old := r.following.Load(); old != nil && strings.EqualFold(old.Host, t.Host) && old.Port == t.Port {
		r.log.Info("REPLICAOF would result into synchronization with the master we are already connected with. No operation performed.")
		w.Simple("OK Already connected to specified master")
		return
	}
	if err := s.srv.follow(t); err != nil {
		w.Error("ERR " + oneLine(err.Error()))
		return
	}
	r.log.Info(fmt.Sprintf("REPLICAOF %s:%d enabled (user request from '%s')", t.Host, t.Port, s.describe(time.Now())))
	w.OK()
}

// cmdRole tells the role: of a primary the offset and its replicas, of a replica its primary and the link's state.
func (s *session) cmdRole(_ [][]byte) {
	w := s.conn.Out()
	r := &s.srv.repl
	if t := r.following.Load(); t != nil {
		st := r.replica.Status()
		off := int64(-1)
		if st.State == replication.Connected {
			off = int64(st.Applied)
		}
		w.Array(5)
		w.BulkString("slave")
		w.BulkString(t.Host)
		w.Int(int64(t.Port))
		w.BulkString(string(st.State))
		w.Int(off)
		return
	}
	var online []replication.ReplicaInfo
	for _, i := range r.primary.Replicas() {
		if i.State == replication.StateOnline && i.IP != "" {
			online = append(online, i)
		}
	}
	w.Array(3)
	w.BulkString("master")
	w.Int(int64(s.eng.Log().End()))
	w.Array(len(online))
	for _, i := range online {
		w.Array(3)
		w.BulkString(i.IP)
		w.BulkString(strconv.Itoa(i.Port))
		w.BulkString(strconv.FormatInt(int64(i.Ack), 10))
	}
}

// request is what this connection has said about itself as a replica.
func (s *session) request() *replication.Request {
	if s.replica == nil {
		s.replica = &replication.Request{}
	}
	return s.replica
}

func (s *session) cmdReplconf(args [][]byte) {
	text, ok := s.request().Replconf(args[1:])
	switch {
	case !ok:
		s.conn.Out().Error(text)
	case text != "":
		s.conn.Out().Simple(text)
	}
}

func (s *session) cmdPsync(args [][]byte) {
	s.attach(func(q *replication.Request) string { return q.Psync(args[1:]) })
}

func (s *session) cmdSync(_ [][]byte) {
	s.attach(func(q *replication.Request) string { q.Sync(); return "" })
}

// attach makes the connection a replica's. REQUIRES: off the loop.
func (s *session) attach(ask func(*replication.Request) string) {
	w := s.conn.Out()
	q := s.request()
	if text := ask(q); text != "" {
		w.Error(text)
		return
	}
	r := &s.srv.repl
	s.conn.Settle()
	if pending, _ := s.conn.OutputPending(); pending > 0 || w.Len() > 0 {
		w.Error("ERR SYNC and PSYNC are invalid with pending output")
		return
	}
	promote, refuse := q.Admit(s.srv.standing())
	if refuse != "" {
		w.Error(refuse)
		return
	}
	if promote {
		if err := s.srv.takeOver(s.ctx); err != nil {
			w.Error("ERR " + oneLine(err.Error()))
			return
		}
	}
	name := s.clientName()
	h, err := s.conn.Hijack()
	if err != nil {
		w.Error("ERR " + oneLine(err.Error()))
		return
	}
	s.quit = true
	link := s.srv.links.add(s, name, h.Conn)
	go func() {
		defer s.srv.links.remove(link)
		r.primary.Serve(h.Conn, h.Rest, *q)
	}()
}

// standing is what decides whether this server can serve replicas at all.
func (s *Server) standing() replication.Standing {
	id, _, _ := s.eng.Position()
	return replication.Standing{Replica: s.eng.IsReplica(), LinkUp: s.repl.replica.State() == replication.Connected, ID: id}
}

// waiting is a WAIT under way: CLIENT UNBLOCK ends it, and the end of the primary's role.
type waiting struct {
	cancel context.CancelCauseFunc
}

// unblocked is why a WAIT was ended: its text is the reply, or if there is none, the count is.
type unblocked string

func (u unblocked) Error() string { return "unblocked: " + string(u) }

// waitFor runs a wait for replicas that CLIENT UNBLOCK, the end of the primary's role and ms end; 0 = no time limit. It returns
// false if the wait ended with an error, which is answered.
func (s *session) waitFor(ms int64, wait func(ctx context.Context)) bool {
	own, cancel := context.WithCancelCause(s.ctx)
	defer cancel(nil)
	ctx := own
	if ms > 0 {
		limited, stop := context.WithTimeout(own, time.Duration(min(ms, math.MaxInt64/int64(time.Millisecond)))*time.Millisecond)
		defer stop()
		ctx = limited
	}
	s.waits.Store(&waiting{cancel})
	s.blocked.Store(true)
	if s.srv.repl.following.Load() != nil {
		s.unblockWait(reply.UnblockedRoleChange) // the role came to an end before becomeReplica could see us
	}
	endHurry := s.srv.eng.Log().Hurry()
	wait(ctx)
	endHurry()
	s.blocked.Store(false)
	s.waits.Store(nil)
	s.clock = monotonic() // the time waited is not the command's
	var why unblocked
	if errors.As(context.Cause(own), &why) && why != "" {
		s.conn.Out().Error(string(why))
		return false
	}
	return true
}

// unblockWait ends a WAIT of the session with an error, or with its count if text is empty; false if there is none.
func (s *session) unblockWait(text string) bool {
	wt := s.waits.Swap(nil)
	if wt == nil {
		return false
	}
	wt.cancel(unblocked(text))
	return true
}

func (s *session) waitTimeout(arg []byte) (ms int64, ok bool) {
	w := s.conn.Out()
	ms, ok = command.ParseInt(arg)
	if !ok {
		w.Error(reply.TimeoutNotInt)
		return 0, false
	}
	if ms < 0 {
		w.Error(reply.TimeoutNegative)
		return 0, false
	}
	return ms, true
}

// cmdWait waits until enough replicas have applied what was written up to now.
func (s *session) cmdWait(args [][]byte) {
	w := s.conn.Out()
	r := &s.srv.repl
	if r.following.Load() != nil {
		w.Error(reply.WaitOnReplica)
		return
	}
	n, ok := command.ParseInt(args[1])
	if !ok {
		w.Error(reply.NotInt)
		return
	}
	ms, ok := s.waitTimeout(args[2])
	if !ok {
		return
	}
	_, end, _ := s.position()
	have := r.primary.CountAcks(end, false)
	if int64(have) < n && !s.multi.active {
		if !s.waitFor(ms, func(ctx context.Context) { have = r.primary.WaitAcks(ctx, end, int(min(n, math.MaxInt32)), false) }) {
			return
		}
	}
	w.Int(int64(have))
}

// cmdWaitAOF waits until this server (numlocal) and enough replicas have what was written up to now on disk.
func (s *session) cmdWaitAOF(args [][]byte) {
	w := s.conn.Out()
	r := &s.srv.repl
	local, ok := command.ParseInt(args[1])
	if !ok {
		w.Error(reply.NotInt)
		return
	}
	if local < 0 || local > 1 {
		w.Error("ERR value is out of range, value must between 0 and 1")
		return
	}
	n, ok := command.ParseInt(args[2])
	if !ok {
		w.Error(reply.NotInt)
		return
	}
	if n < 0 {
		w.Error("ERR value is out of range, must be positive")
		return
	}
	ms, ok := s.waitTimeout(args[3])
	if !ok {
		return
	}
	if r.following.Load() != nil {
		w.Error("ERR WAITAOF cannot be used with replica instances. Please also note that writes to replicas are just local and are not propagated.")
		return
	}
	_, end, _ := s.position()
	log := s.eng.Log()
	here := func() int64 {
		if log.Durable() >= end {
			return 1
		}
		return 0
	}
	have := r.primary.CountAcks(end, true)
	if (int64(have) < n || here() < local) && !s.multi.active {
		if !s.waitFor(ms, func(ctx context.Context) {
			if local > 0 {
				// A failed log ends the connection; a time limit shows in the reply.
				_ = log.WaitDurable(ctx, end)
			}
			have = r.primary.WaitAcks(ctx, end, int(min(n, math.MaxInt32)), true)
		}) {
			return
		}
	}
	w.Array(2)
	w.Int(here())
	w.Int(int64(have))
}

// position is the engine's, which takes the lock: inside a transaction it is held already, and nothing waits then.
func (s *session) position() (id string, end wal.Offset, db int) {
	if s.locked {
		return "", s.eng.EndLocked(), 0
	}
	return s.eng.Position()
}
